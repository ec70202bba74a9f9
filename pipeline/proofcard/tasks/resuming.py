"""Where answers of an interrupted run are kept: a file for each server, named after what answers there."""

from pathlib import Path

from proofcard.config.asking import Target
from proofcard.config.tasks import TasksConfig
from proofcard.digest import sha256_json
from proofcard.files import listed
from proofcard.fingerprint import lock_digest
from proofcard.serve.target import Reachable

FOLDER = "tasks.interrupted"


def place(config: TasksConfig, target: Target, server: Reachable) -> Path | None:
    """The file for one server; None where nothing may be reused.

    For a checkpoint that is served here it depends on its files (names, sizes, times of change), on the
    profile and on the locked packages. What a running server serves cannot be known: with `tasks.resume=true`
    the user vouches for it, and the file depends on address and model.
    """
    resume = config.tasks.resume
    if resume is False or (target.checkpoint is None and resume is None):
        return None
    if target.checkpoint is None:
        identity: object = {"endpoint": server.endpoint.url, "model": server.endpoint.model}
    else:
        assert config.serving is not None
        files = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in listed(target.checkpoint)
        ]
        identity = {
            "checkpoint": [str(target.checkpoint.resolve()), sorted(files)],
            "serving": config.serving.identity(),
            "lock": lock_digest(),
        }
    folder = config.work_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{sha256_json(identity)[:32]}.jsonl"


def done(places: list[Path | None]) -> None:
    """Remove the files of a run that has ended: the next one asks for everything again."""
    for path in filter(None, places):
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
