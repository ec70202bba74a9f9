"""The source that a configuration names, fetched from the hub where it has to be."""

from pathlib import Path

from proofcard.checkpoint.delivery import Delivery
from proofcard.checkpoint.repository import pinned
from proofcard.checkpoint.source import Source
from proofcard.config.schema import Model
from proofcard.errors import Stop, Usage


def opened(model: Model, work_dir: Path, streamed: bool) -> Source:
    """The source that a configuration names: its local folder, or its repository at a commit of the hub.

    Small files are fetched at once; shards come later, in `arriving`.

    Raises:
        Usage: when neither is named, or the revision is no commit.
        Stop: when the source is unusable, cannot be fetched, or is not whole and must not be `streamed`.
    """
    if model.path is not None:
        return Source(model.path)
    if model.repository is None:
        raise Usage(
            "model.path is not set: give a checkpoint's folder, or model.repository and model.revision"
        )
    delivery = Delivery(pinned(model.repository, model.revision), work_dir / "sources")
    if delivery.missing and not streamed:
        raise Stop(
            f"{len(delivery.missing)} files of {delivery.repository} are not here, and several ranks need "
            f"them all before they start: run `proofcard fetch model.repository={model.repository} "
            f"model.revision={model.revision} model.path=null` on every machine first"
        )
    delivery.fetch_small()
    return Source(delivery.folder, delivery)
