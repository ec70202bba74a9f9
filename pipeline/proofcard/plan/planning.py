"""The plan of one recipe: everything counted on the meta device, then put into its document."""

from proofcard.calibration import tokenizer
from proofcard.config import QuantizeConfig
from proofcard.documents.plan import Export, Model, Plan, Quantizers, Recipe, Source
from proofcard.errors import before_work
from proofcard.plan import outline
from proofcard.progress import Bar, console
from proofcard.toolchain import activate, materialise


def planned(config: QuantizeConfig, described: outline.Described) -> Plan:
    """The whole plan.

    Raises:
        Usage: when the recipe could not do what it promises.
    """
    console.print(
        f"recipe={config.recipe.name}: planning on the meta device, without reading weights", soft_wrap=True
    )
    with before_work():
        _check_tokenizer(config)
        activate(materialise(config.toolchain.series, config.work_dir / "toolchains"))
        from proofcard.plan import serving_memory, weights
        from proofcard.plan.evaluation_work import evaluation_work
        from proofcard.plan.work import work

        with Bar("planning", weights.STEPS, "steps") as bar:
            counted = weights.take(config, described, bar.advance)
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
