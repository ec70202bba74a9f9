"""`fetch`: what a recipe takes from the hub, so that `quantize` needs no network afterwards.

    uv run proofcard fetch recipe=… model.revision=… calibration.datasets.….revision=…

The model comes into `<work_dir>/sources`, every digest checked. Datasets are streamed, not kept: the samples
that the recipe draws from them are, as the sealed sample set that `quantize` would have made.
"""

from rich.table import Table

from proofcard import manifest, stage
from proofcard.calibration import sample_set as samples_stage
from proofcard.checkpoint.delivery import Delivery
from proofcard.checkpoint.repository import pinned
from proofcard.config import QuantizeConfig, compose
from proofcard.documents.manifest import Manifest
from proofcard.errors import Usage
from proofcard.progress import Bar, shown
from proofcard.screen import Screen


def run(overrides: list[str]) -> int:
    """Compose the overrides, bring what is missing, and print what is here. Returns 0.

    Small files first, then the samples, then the shards: what is wrong with a dataset is known before the
    long download.

    Raises:
        Usage: when nothing of the recipe is on the hub, or something of it is not at a commit.
        Stop: when a download fails; what has arrived stays.
    """
    config = compose(QuantizeConfig, "config", overrides)
    samples = _takes_samples(config)
    if config.model.path is not None:
        if not samples:
            raise Usage(
                "model.path is a local folder, and no dataset is on the hub: there is nothing to fetch; give "
                "model.path=null, model.repository=… and model.revision=…"
            )
        _print_samples(config, _draw(config))
        return 0
    if config.model.repository is None:
        raise Usage("model.path is not set: give model.repository and model.revision, or a local folder")
    delivery = Delivery(pinned(config.model.repository, config.model.revision), config.work_dir / "sources")
    missing = set(delivery.missing)
    delivery.fetch_small()
    config = config.model_copy(update={"model": config.model.model_copy(update={"path": delivery.folder})})
    drawn = _draw(config) if samples else None
    _fetch(delivery)
    _print(delivery, missing)
    if drawn is not None:
        _print_samples(config, drawn)
    return 0


def _takes_samples(config: QuantizeConfig) -> bool:
    """Whether drawing the samples needs the hub."""
    datasets = config.calibration.datasets.values()
    remote = any(dataset.path is None and "/" in dataset.repository for dataset in datasets)
    return remote and config.calibration.frozen is None


def _draw(config: QuantizeConfig) -> Manifest:
    """The manifest of the recipe's sample set, drawn unless it stands."""
    origin = samples_stage.describe(config)
    key = manifest.key_of("samples", **origin)
    final = samples_stage.place(config, key)
    return stage.find_sealed(final, key) or samples_stage.make(config, origin, final)


def _fetch(delivery: Delivery) -> None:
    """Everything that is still missing, with a bar of megabytes."""
    with Bar(str(delivery.repository), delivery.size(delivery.missing) // 10**6, "MB") as bar:
        left = 0

        def tell(_: str, size: int) -> None:
            nonlocal left
            megabytes, left = divmod(left + size, 10**6)
            bar.advance(megabytes)

        delivery.fetch(lambda _: True, tell)


def _print(delivery: Delivery, fetched: set[str]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("sha256", min_width=12)
    table.add_column("digest")
    for file, said in delivery.files().items():
        state = "right, fetched now" if file in fetched else "right, was here"
        table.add_row(file, f"{said['size']:,}", said["sha256"][:12], state)
    out = Screen()
    out.print(table)
    total = sum(said["size"] for said in delivery.files().values())
    out.print()
    out.print(f"{total / 1e9:.3f} GB in {len(delivery.promised)} files: {shown(delivery.folder)}")


def _print_samples(config: QuantizeConfig, sealed: Manifest) -> None:
    said = sealed.statistics
    folder = samples_stage.place(config, sealed.key)
    Screen().print(f"{said['samples']} samples, {said['tokens']} tokens: {shown(folder)}", soft_wrap=True)
