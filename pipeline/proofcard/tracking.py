"""MLflow: one parent run per pipeline, a nested run per stage. Nothing secret passes."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from proofcard import children
from proofcard.bundle import bundled
from proofcard.config.compose import flatten
from proofcard.config.schema import Tracking
from proofcard.errors import one_line
from proofcard.fingerprint import lock_digest
from proofcard.progress import console
from proofcard.redact import redact
from proofcard.tracking_store import connected

_BATCH = 100  # MLflow's own limit of parameters in one call
_DEEPEST = 8  # runs within each other
_TRIES, _PAUSE = 5, 0.3  # calls, seconds between them
_LONGEST = 6000  # MLflow's limit of a parameter's characters


class Tracker:
    """What a stage tells MLflow; with tracking off, nothing is told.

    A store that stops answering in the middle of the work costs the rest of the tracking, not the work.
    """

    def __init__(self, mlflow: ModuleType | None, parent: str | None = None) -> None:
        self._mlflow, self._parent = mlflow, parent
        self.lost: str | None = None
        """Why the store has not got everything; None when it has, or when there is none."""

    def params(self, values: dict[str, Any]) -> None:
        """Parameters, nested ones flattened to dotted names."""
        flat = [(name, redact(str(value))[:_LONGEST]) for name, value in sorted(flatten(values).items())]
        for first in range(0, len(flat), _BATCH):
            self._tell("log_params", dict(flat[first : first + _BATCH]))

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Numbers, each at a step."""
        self._tell("log_metrics", values, step=step)

    def tags(self, values: dict[str, str]) -> None:
        """Strings to search runs by."""
        self._tell("set_tags", {name: redact(value) for name, value in values.items()})

    def text(self, text: str, name: str) -> None:
        """A text artifact."""
        self._tell("log_text", redact(text), name)

    def file(self, path: Path, folder: str | None = None) -> None:
        """A file, byte for byte, as an artifact in a folder, or beside the others."""
        self._tell("log_artifact", str(path), folder)

    def figure(self, draw: Callable[[], Any], name: str) -> None:
        """What `draw` makes with matplotlib, as an artifact; with tracking off it is not called."""
        if self._mlflow is not None:
            self._tell("log_figure", draw(), name)

    def datasets(self, described: dict[str, Any], config: dict[str, Any]) -> None:
        """Each calibration dataset as an MLflow input, with its full sha256 as a tag."""
        if self._mlflow is None:
            return
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        for name, dataset in described.items():
            said = config[name]
            # MLflow cuts its own digest at 36 characters; the full one is a tag and in the manifest.
            source = CodeDatasetSource(
                tags={"repository": said["repository"], "split": ",".join(said["splits"])}
            )
            entry = MetaDataset(  # type: ignore[abstract]  # it is used as it is in MLflow's documentation
                source, name=name, digest=dataset["digest"][:36]
            )
            self._tell("log_input", entry, context="calibration", tags={"sha256": dataset["digest"]})
            self.tags({f"dataset.{name}.sha256": dataset["digest"]})

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A nested run; a failure ends it as FAILED, an interrupt as KILLED."""
        return self.run(name, nested=True)

    @contextmanager
    def run(self, name: str, nested: bool) -> Iterator[None]:
        """A run of MLflow around a piece of work, its system metrics sampled if it is the outermost."""
        self._tell(
            "start_run", run_name=name, nested=nested, log_system_metrics=not nested,
            parent_run_id=None if nested else self._parent,
        )  # fmt: skip
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self._tell("end_run", status)

    def _tell(self, function: str, *values: Any, **named: Any) -> None:
        if self._mlflow is None:
            return
        try:
            _again_if_busy(getattr(self._mlflow, function), *values, **named)
        except Exception as error:  # every store has its own family of exceptions
            mlflow, self._mlflow = self._mlflow, None
            self.lost = redact(one_line(error))[:400]
            console.print(
                f"MLflow stopped answering ({self.lost}): the work goes on, untracked from here", markup=False
            )
            _give_up(mlflow)


def _again_if_busy(call: Callable[..., Any], *values: Any, **named: Any) -> None:
    """The call, again where another run was writing the same at that moment: a dataset's row, the file."""
    for left in reversed(range(_TRIES)):
        try:
            call(*values, **named)
            return
        except Exception as error:
            if not left or not re.search("UNIQUE constraint failed|database is locked", str(error)):
                raise
            time.sleep(_PAUSE)


def _give_up(mlflow: ModuleType) -> None:
    """End the open runs as failed, if the store can still hear it, and what samples system metrics."""
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor as monitors

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    for _ in range(_DEEPEST):
        with suppress(Exception):
            mlflow.end_run("FAILED")
    for run in list(monitors):
        with suppress(Exception):
            monitors.pop(run).finish()


@contextmanager
def opened(tracking: Tracking, recipe: str, work_dir: Path, leads: bool = True) -> Iterator[Tracker]:
    """The parent run of a pipeline, in the tracked store; of several processes only the leading one tells.

    What has not all reached the store is said at the end.

    Raises:
        Usage: when the store cannot be reached or written, or MLFLOW_RUN_ID names no running run of it.
    """
    if tracking.uri is None or not leads:
        yield Tracker(None)
        return
    with connected(tracking, work_dir) as (mlflow, parent):
        tracker = Tracker(mlflow, parent)
        try:
            with tracker.run(recipe, nested=False):
                tracker.tags({"recipe": recipe} | _environment())
                tracker.text(" ".join(sys.argv[1:]) + "\n", "overrides.txt")
                yield tracker
        finally:
            if tracker.lost is not None:
                console.print(
                    f"MLflow at {redact(tracking.uri)} has this run only in part, or not at all: it stopped "
                    f"answering ({tracker.lost})",
                    markup=False, soft_wrap=True,
                )  # fmt: skip


def _environment() -> dict[str, str]:
    """Tags on the surroundings: informative, in no key and in no compared field."""
    found = {"uv.lock.sha256": lock_digest(), "python": platform.python_version(), "os": platform.platform()}
    revision = _revision()
    if revision is not None:
        found["mlflow.source.git.commit"] = revision.removesuffix("-dirty")
        found["git.dirty"] = str(revision.endswith("-dirty")).lower()
    return found


def _revision() -> str | None:
    """The commit of this checkout, or the one that an image, which has no git, was made from."""
    if "PROOFCARD_REVISION" in os.environ:
        return os.environ["PROOFCARD_REVISION"]
    if shutil.which("git") is None:
        return None
    root = bundled("conf").parent
    git = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False, env=children.environment(),
    )  # fmt: skip
    return git.stdout.strip() if git.returncode == 0 else None
