"""`plan`: what a recipe will do, before anything is paid for.

uv run proofcard plan recipe=…            # one recipe: inventory, work, memory, where the result fits
uv run proofcard plan a b                 # two recipes side by side: what differs, and what that changes
"""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.calibration import tokenizer
from proofcard.config import QuantizeConfig, compose
from proofcard.disk import check_writable
from proofcard.documents.plan import Export, Model, Plan, Quantizers, Recipe, Source
from proofcard.errors import Usage, before_work
from proofcard.plan import compare, outline, show
from proofcard.progress import console
from proofcard.toolchain import activate, materialise

_REPORT = "report="


def run(words: list[str]) -> int:
    """Plan what the words ask for, print it, write it as JSON and track it. Returns 0.

    Raises:
        Usage: when the request is wrong, or the recipe would not do what it says.
    """
    report = next((Path(word.removeprefix(_REPORT)) for word in words if word.startswith(_REPORT)), None)
    recipes = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word and not word.startswith(_REPORT)]
    if len(recipes) > 2:
        raise Usage(f"two recipes at most are put side by side, not {', '.join(recipes)}")
    chosen = [[f"recipe={name}", *overrides] for name in recipes] or [overrides]
    configs = [compose(QuantizeConfig, "config", each) for each in chosen]
    first = configs[0]
    name = "-".join(config.recipe.name for config in configs)
    path = report or first.work_dir / "plans" / f"{name}.json"
    with before_work():
        check_writable(path.parent)
    plans = [planned(config, outline.describe(config.model)) for config in configs]
    document = plans[0] if len(plans) == 1 else compare.side_by_side(*plans)
    with tracking.opened(first.tracking, "plan", first.work_dir, name=f"plan {name}") as tracker:
        for config, made in zip(configs, plans, strict=True):
            prefix = f"{config.recipe.name}." if len(plans) > 1 else ""
            tracker.params({f"{prefix}{key}": value for key, value in config.identity().items()})
            tracker.metrics({f"{prefix}{key}": value for key, value in compare.numbers(made).items()})
        outcome.deliver(document, path, partial(show.show, document), tracker, "plan")
    return 0


def planned(config: QuantizeConfig, described: outline.Described) -> Plan:
    """The whole plan.

    Raises:
        Usage: when the recipe would not do what it says.
    """
    console.print(
        f"recipe={config.recipe.name}: counting on the meta device, no weight is read", soft_wrap=True
    )
    with before_work():
        _check_tokenizer(config)
        activate(materialise(config.toolchain.series, config.work_dir / "toolchains"))
        from proofcard.plan import serving_memory, weights
        from proofcard.plan.evaluation_work import evaluation_work
        from proofcard.plan.work import work

        counted = weights.take(config, described)
        hardware = serving_memory.profiles()
    done, judged = work(config, counted), evaluation_work(config, counted)
    if (local := serving_memory.here()) is not None:
        hardware = [*hardware, local]
    total = done.flop_routed + done.flop_forced
    source = described.config
    return Plan(
        recipe=Recipe(name=config.recipe.name, summary=config.recipe.summary),
        config=config.identity(),
        source=Source(
            config=described.file.name,
            repository=config.model.repository,
            revision=config.model.revision,
            differences=list(described.differences),
            download=done.memory.source,
        ),
        model=Model(
            architecture=source["architectures"][0],
            parameters=counted.parameters,
            layers=source["num_hidden_layers"],
            hidden_size=source["hidden_size"],
            experts=counted.experts,
            experts_per_token=source.get("num_experts_per_tok"),
            context=source["max_position_embeddings"],
        ),
        quantizers=Quantizers(
            inserted=counted.inserted,
            enabled=counted.enabled,
            by_formula=counted.expected,
            inserted_after_dequantizing=counted.dequantized_first,
        ),
        modules=list(counted.kinds),
        globs=list(counted.globs),
        export=Export(
            tensors=len(counted.entries),
            bytes=sum(entry.size for entry in counted.entries),
            files=counted.file_bytes,
            groups=counted.groups,
        ),
        work=done,
        evaluation=judged,
        machine=serving_memory.machine(config.work_dir),
        serving=[serving_memory.fits(profile, config, counted, total, judged.flop) for profile in hardware],
    )


def _check_tokenizer(config: QuantizeConfig) -> None:
    """Open the tokenizer where the folder has one, as `quantize` will: for a plan, config.json is enough."""
    folder = config.model.path
    if folder is not None and any(folder.glob("tokenizer*")):
        tokenizer.opened(folder, config.model.remote_code)
