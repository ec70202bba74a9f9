"""MLflow tracking: a run per checkpoint, with a child per command and its stages. Secrets are redacted."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from proofcard import children, tracking_parents
from proofcard.bundle import bundled
from proofcard.config.compose import flatten
from proofcard.config.schema import Tracking
from proofcard.errors import Usage, one_line
from proofcard.fingerprint import lock_digest
from proofcard.progress import console
from proofcard.redact import redact
from proofcard.tracking_parents import Subject, subject_of
from proofcard.tracking_store import connected, file_of, lock_of, no_answer

__all__ = ["Subject", "Tracker", "is_off", "opened", "subject_of"]

_BATCH = 100  # MLflow's limit of parameters per call
_DEEPEST = 8  # nested runs
_TRIES, _PAUSE = 5, 0.3  # calls, seconds between them
_LONGEST = 6000  # MLflow's limit of a parameter's characters


class Tracker:
    """A stage's interface to MLflow; does nothing with tracking off.

    If the store stops responding, the rest of the tracking is lost, but not the work.
    """

    def __init__(self, mlflow: ModuleType | None, parent: str | None = None) -> None:
        self._mlflow, self._parent = mlflow, parent
        self.lost: str | None = None
        """Why the store is incomplete; None if it is complete or there is none."""

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
        """The figure that `draw` makes with matplotlib, as an artifact; not called with tracking off."""
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
        """A nested run, ended as FAILED by an error and as KILLED by an interrupt."""
        return self.run(name, nested=True)

    @contextmanager
    def run(self, name: str, nested: bool) -> Iterator[None]:
        """An MLflow run around a piece of work, sampling system metrics if it is the outermost."""
        self._tell(
            "start_run", run_name=name, nested=nested, log_system_metrics=not nested,
            parent_run_id=None if nested else self._parent,
        )  # fmt: skip
        with self._ended(lambda status: self._tell("end_run", status)):
            yield

    @contextmanager
    def parent_running(self) -> Iterator[None]:
        """The checkpoint's run is in progress as long as this is, and ends as this does."""
        self._of_parent("update_run", "RUNNING")
        with self._ended(lambda status: self._of_parent("set_terminated", status)):
            yield

    @contextmanager
    def _ended(self, tell: Callable[[str], None]) -> Iterator[None]:
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            tell(status)

    def _of_parent(self, function: str, status: str) -> None:
        if self._mlflow is not None and self._parent is not None:
            client, parent = self._mlflow.MlflowClient(), self._parent
            self._called(lambda: getattr(client, function)(parent, status))

    def _tell(self, function: str, *values: Any, **named: Any) -> None:
        if self._mlflow is not None:
            self._called(getattr(self._mlflow, function), *values, **named)

    def _called(self, call: Callable[..., Any], *values: Any, **named: Any) -> None:
        try:
            _again_if_busy(call, *values, **named)
        except Exception as error:  # every store has its own family of exceptions
            mlflow, self._mlflow = self._mlflow, None
            assert mlflow is not None
            self.lost = redact(one_line(error))[:400]
            console.print(
                f"MLflow stopped responding ({self.lost}): continuing without tracking", markup=False
            )
            _give_up(mlflow)


def _again_if_busy(call: Callable[..., Any], *values: Any, **named: Any) -> None:
    """Make a call, retrying if another run was writing the same row or file at that moment."""
    for left in reversed(range(_TRIES)):
        try:
            call(*values, **named)
            return
        except Exception as error:
            if not left or not re.search("UNIQUE constraint failed|database is locked", str(error)):
                raise
            time.sleep(_PAUSE)


def _give_up(mlflow: ModuleType) -> None:
    """End the open runs as failed, if the store still responds, and the sampling of system metrics."""
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor as monitors

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    for _ in range(_DEEPEST):
        with suppress(Exception):
            mlflow.end_run("FAILED")
    for run in list(monitors):
        with suppress(Exception):
            monitors.pop(run).finish()


@contextmanager
def opened(
    tracking: Tracking,
    command: str,
    work_dir: Path,
    *,
    subject: Subject | None = None,
    name: str | None = None,
    leads: bool = True,
    makes: bool = False,
) -> Iterator[Tracker]:
    """The run of a command in the tracked store, under the run of the checkpoint it works on.

    Without a `subject` (a plan, an endpoint, a checkpoint that was never sealed) the run has no parent, or
    the one that MLFLOW_RUN_ID names. Of several processes only the one that `leads` tracks. The command that
    `makes` the checkpoint decides the state of the checkpoint's run as well. `name` is the run's, the
    command's own unless it is given. What has not all reached the store is reported at the end.

    Where no store is to be made, one that cannot be used costs the tracking and not the work.

    Raises:
        Usage: when the store cannot be reached or written, or MLFLOW_RUN_ID names no running run of it.
    """
    if not leads or is_off(tracking):
        yield Tracker(None)
        return
    with ExitStack() as stack:
        try:
            mlflow, outer = stack.enter_context(connected(tracking, work_dir))
            parent = _parent(mlflow, tracking, subject, outer)
            tracker = Tracker(mlflow, parent)
        except Usage as stop:
            if tracking.create or file_of(tracking) is None:
                raise
            console.print(f"not tracked: {stop}", markup=False, soft_wrap=True)
            tracker, makes, outer = Tracker(None), False, None
        running = tracker.parent_running() if makes and subject is not None else nullcontext()
        try:
            with running, tracker.run(name or command, nested=False):
                tracker.tags({"command": command} | _tags(subject, outer) | _environment())
                tracker.text(" ".join(sys.argv[1:]) + "\n", "overrides.txt")
                yield tracker
        finally:
            if tracker.lost is not None:
                console.print(
                    f"MLflow at {redact(str(tracking.uri))} has only a part of this run, or none: it "
                    f"stopped responding ({tracker.lost})",
                    markup=False, soft_wrap=True,
                )  # fmt: skip


def is_off(tracking: Tracking) -> bool:
    """Whether tracking is off: by configuration, or because there is no store and none may be created."""
    if tracking.uri is None:
        return True
    if tracking.create:
        return False
    if find_spec("mlflow") is None:
        return True
    file = file_of(tracking)
    return file is not None and not file.exists()


def _parent(mlflow: ModuleType, tracking: Tracking, subject: Subject | None, outer: str | None) -> str | None:
    """The parent of the command's run, with a line about it if the environment requests another one."""
    if outer is not None:
        asked = f"MLFLOW_RUN_ID={outer!r}"
        where = f"is nested in {asked}"
        if subject is not None:
            where = f"is nested in that of its checkpoint, {subject.name}; {asked} is noted as a tag"
        console.print(f"MLflow: this run {where}", markup=False, soft_wrap=True)
    if subject is None:
        return outer
    try:
        return tracking_parents.found_or_made(mlflow, tracking.experiment, subject, lock_of(tracking))
    except Exception as error:  # every store has its own family of exceptions
        raise no_answer(tracking, error) from None


def _tags(subject: Subject | None, outer: str | None) -> dict[str, str]:
    tags = {"key": subject.key} if subject is not None else {}
    if subject is not None and subject.recipe is not None:
        tags["recipe"] = subject.recipe
    if subject is not None and outer is not None:
        tags["started_in"] = outer
    return tags


def _environment() -> dict[str, str]:
    """Tags about the environment: informative, in no key and in no compared field."""
    found = {"uv.lock.sha256": lock_digest(), "python": platform.python_version(), "os": platform.platform()}
    revision = _revision()
    if revision is not None:
        found["mlflow.source.git.commit"] = revision.removesuffix("-dirty")
        found["git.dirty"] = str(revision.endswith("-dirty")).lower()
    return found


def _revision() -> str | None:
    """The commit of this checkout, or the one from which an image was built."""
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
