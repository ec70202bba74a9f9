"""Opens the source that a configuration selects, downloading it from the hub if needed."""

from pathlib import Path

from proofcard.checkpoint.download import Download
from proofcard.checkpoint.repository import pinned
from proofcard.checkpoint.source import Source
from proofcard.config.schema import Model
from proofcard.errors import Stop, Usage


def opened(model: Model, work_dir: Path, streamed: bool) -> Source:
    """The source that a configuration selects: a local folder, or a repository at a commit on the hub.

    Small files are downloaded at once, shards later, in `downloading`.

    Raises:
        Usage: when neither is set, or the revision is not a commit.
        Stop: when the source is unusable, cannot be downloaded, or is incomplete and may not be `streamed`.
    """
    if model.path is not None:
        return Source(model.path)
    if model.repository is None:
        raise Usage(
            "model.path is not set: set it to a checkpoint's folder, or set model.repository and "
            "model.revision"
        )
    download = Download(pinned(model.repository, model.revision), work_dir / "sources")
    if download.missing and not streamed:
        raise Stop(
            f"{len(download.missing)} files of {download.repository} are missing, and several ranks need all "
            f"files before they start: run `proofcard fetch model.repository={model.repository} "
            f"model.revision={model.revision} model.path=null` on every machine first"
        )
    download.fetch_small()
    return Source(download.folder, download)
