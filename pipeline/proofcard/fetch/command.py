"""`fetch`: what a recipe takes from the hub, so that `quantize` needs no network afterwards.

    uv run proofcard fetch recipe=… model.revision=… calibration.datasets.….revision=…

The model comes into `<work_dir>/sources`, every digest checked. Datasets are streamed, not kept: the samples
that the recipe draws from them are, as the sealed sample set that `quantize` would have made.
"""

from pathlib import Path

from proofcard import manifest, outcome, stage, tracking
from proofcard.calibration import sample_set as samples_stage
from proofcard.checkpoint.download import Download
from proofcard.checkpoint.repository import pinned
from proofcard.config import QuantizeConfig, compose
from proofcard.documents.fetched import Fetched, FetchedFile, FetchedModel, FetchedSamples
from proofcard.documents.manifest import Manifest
from proofcard.errors import Usage
from proofcard.grid import Grid
from proofcard.progress import Bar, shown
from proofcard.screen import Screen
from proofcard.units import counted, size


def run(overrides: list[str]) -> int:
    """Compose the overrides, bring what is missing, and print what is here. Returns 0.

    Raises:
        Usage: when nothing of the recipe is on the hub, or something of it is not at a commit.
        Stop: when a download fails; what has arrived stays.
    """
    config = compose(QuantizeConfig, "config", overrides)
    takes_samples = _takes_samples(config)
    delivery = _delivery(config, takes_samples)
    with tracking.opened(
        config.tracking, "fetch", config.work_dir, name=f"fetch {config.recipe.name}"
    ) as tracker:
        tracker.tags({"recipe": config.recipe.name})
        fetched, folders = _brought(config, delivery, takes_samples)
        if fetched.samples is not None:
            tracker.tags({"samples.key": fetched.samples.key})
        if fetched.model is not None:
            tracker.params(
                {"model": {"repository": fetched.model.repository, "commit": fetched.model.commit}}
            )
        path = config.work_dir / "fetched" / f"{config.recipe.name}.json"
        outcome.deliver(fetched, path, lambda out: _show(fetched, folders, out), tracker, "fetch")
    return 0


def _takes_samples(config: QuantizeConfig) -> bool:
    """Whether drawing the samples needs the hub."""
    datasets = config.calibration.datasets.values()
    remote = any(dataset.path is None and "/" in dataset.repository for dataset in datasets)
    return remote and config.calibration.frozen is None


def _delivery(config: QuantizeConfig, takes_samples: bool) -> Download | None:
    """The model's files to come; None where the model is a local folder."""
    if config.model.path is not None:
        if not takes_samples:
            raise Usage(
                "model.path is a local folder, and no dataset is on the hub: there is nothing to fetch; give "
                "model.path=null, model.repository=… and model.revision=…"
            )
        return None
    if config.model.repository is None:
        raise Usage("model.path is not set: give model.repository and model.revision, or a local folder")
    repository = pinned(config.model.repository, config.model.revision)
    return Download(repository, config.work_dir / "sources")


def _brought(
    config: QuantizeConfig, delivery: Download | None, takes_samples: bool
) -> tuple[Fetched, tuple[Path | None, Path | None]]:
    """Everything brought, and the folders of model and samples.

    Small files first, then the samples, then the shards: what is wrong with a dataset is known before the
    long download.
    """
    missing = set(delivery.missing) if delivery is not None else set()
    if delivery is not None:
        delivery.fetch_small()
        model = config.model.model_copy(update={"path": delivery.folder})
        config = config.model_copy(update={"model": model})
    drawn = _draw(config) if takes_samples else None
    if delivery is not None:
        _fetch(delivery)
    fetched = Fetched(
        recipe=config.recipe.name,
        model=_model(delivery, missing) if delivery is not None else None,
        samples=_samples(drawn) if drawn is not None else None,
    )
    where = samples_stage.place(config, drawn.key) if drawn is not None else None
    return fetched, (delivery.folder if delivery is not None else None, where)


def _draw(config: QuantizeConfig) -> Manifest:
    """The manifest of the recipe's sample set, drawn unless it stands."""
    origin = samples_stage.describe(config)
    key = manifest.key_of("samples", **origin)
    final = samples_stage.place(config, key)
    return stage.find_sealed(final, key) or samples_stage.make(config, origin, final)


def _fetch(delivery: Download) -> None:
    """Everything that is still missing, with a bar of megabytes."""
    with Bar(str(delivery.repository), delivery.size(delivery.missing) // 10**6, "MB") as bar:
        left = 0

        def tell(_: str, size: int) -> None:
            nonlocal left
            megabytes, left = divmod(left + size, 10**6)
            bar.advance(megabytes)

        delivery.fetch(lambda _: True, tell)


def _model(delivery: Download, missing: set[str]) -> FetchedModel:
    files = {
        name: FetchedFile(size=file["size"], sha256=file["sha256"], fetched=name in missing)
        for name, file in delivery.files().items()
    }
    repository = delivery.repository
    return FetchedModel(repository=repository.name, commit=repository.commit, files=files)


def _samples(sealed: Manifest) -> FetchedSamples:
    counts = sealed.statistics
    return FetchedSamples(key=sealed.key, samples=counts["samples"], tokens=counts["tokens"])


def _show(fetched: Fetched, folders: tuple[Path | None, Path | None], out: Screen) -> None:
    model, samples = folders
    if fetched.model is not None and model is not None:
        table = Grid("file", "bytes", "sha256", "digest", left=(0, 2, 3))
        for name, file in fetched.model.files.items():
            state = "right, fetched now" if file.fetched else "right, was here"
            table.add_row(name, f"{file.size:,}", file.sha256[:12], state)
        out.print(table)
        out.print()
        total = sum(file.size for file in fetched.model.files.values())
        out.print(
            f"{size(total)} in {counted(len(fetched.model.files), 'file')}: {shown(model)}", soft_wrap=True
        )
    if fetched.samples is not None and samples is not None:
        counts = f"{counted(fetched.samples.samples, 'sample')}, {counted(fetched.samples.tokens, 'token')}"
        out.print(f"{counts}: {shown(samples)}", soft_wrap=True)
