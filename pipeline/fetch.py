"""`fetch`: a recipe's model from the hub into `<work_dir>/sources`, every digest checked.

uv run fetch recipe=… model.revision=…
"""

from rich.console import Console
from rich.table import Table

from pipeline.checkpoint.delivery import Delivery
from pipeline.checkpoint.hub import pinned
from pipeline.config import QuantizeConfig, compose
from pipeline.errors import Usage
from pipeline.progress import Bar, shown


def run(overrides: list[str]) -> int:
    """Compose the overrides, download what is missing, and print every file. Returns 0.

    Raises:
        Usage: when the recipe names no repository at a commit.
        Stop: when the download fails; what has arrived stays.
    """
    config = compose(QuantizeConfig, "config", overrides)
    model = config.model
    if model.path is not None or model.repository is None:
        raise Usage(
            "model.path is a local folder, there is nothing to fetch: give model.path=null, "
            "model.repository=… and model.revision=…"
        )
    delivery = Delivery(pinned(model.repository, model.revision), config.work_dir / "sources")
    missing = set(delivery.missing)
    with Bar(str(delivery.repository), delivery.size(missing) // 10**6, "MB") as bar:
        left = 0

        def tell(_: str, size: int) -> None:
            nonlocal left
            megabytes, left = divmod(left + size, 10**6)
            bar.advance(megabytes)

        delivery.fetch(lambda _: True, tell)
    _print(delivery, missing)
    return 0


def _print(delivery: Delivery, fetched: set[str]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("sha256", min_width=12)
    table.add_column("digest")
    for file, said in delivery.files().items():
        state = "right, fetched now" if file in fetched else "right, was here"
        table.add_row(file, f"{said['size']:,}", said["sha256"][:12], state)
    out = Console(highlight=False)
    out.print(table)
    total = sum(said["size"] for said in delivery.files().values())
    out.print(f"\n{total / 1e9:.3f} GB in {len(delivery.promised)} files: {shown(delivery.folder)}")
