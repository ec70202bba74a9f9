"""Where a command on a finished checkpoint is tracked: in the store of the folder that it was made in."""

from pathlib import Path

from proofcard.config.schema import Tracking

_STORE = "mlflow.db"


def store_of(checkpoint: Path, tracking: Tracking, work_dir: Path) -> Tracking:
    """The tracking that was asked for; without a wish, the store beside the checkpoint where there is one.

    That is `X/mlflow.db` for `X/checkpoints/NAME`, the layout of `work_dir`.
    """
    place = checkpoint.absolute()
    own = place.parent.parent / _STORE
    no_wish = work_dir == Path("runs") and tracking.uri == f"sqlite:///{work_dir}/{_STORE}"
    if not no_wish or place.parent.name != "checkpoints" or not own.is_file():
        return tracking
    if own.resolve() == (work_dir / _STORE).resolve():
        return tracking
    return tracking.model_copy(update={"uri": f"sqlite:///{own}"})
