"""The MLflow runs of a command, and the calls that log to them.

If the store stops responding, the rest of the tracking is lost, but not the work.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from proofcard import tracking_data
from proofcard.config.compose import flatten
from proofcard.progress import console
from proofcard.reachable import in_brief
from proofcard.redact import redact
from proofcard.tracking_checkpoint import BATCH, LONGEST

_DEEPEST = 8  # nested runs
_TRIES, _PAUSE = 5, 0.3  # calls, seconds between them
_PASSING = re.compile(
    "UNIQUE constraint failed|duplicate key value violates|database is locked|deadlock"  # as two runs write
    "|Connection broken|Response ended prematurely",  # the server died in its reply: MLflow gives up
    re.IGNORECASE,
)
_PATIENCE = 3.0  # seconds for the thread that samples system metrics, once the work was interrupted
_HURRIED = "5"  # seconds for a request then


class RunTracker:
    """The runs of a command and what is logged to them; does nothing with tracking off.

    If the store stops responding, the rest of the tracking is lost, but not the work.
    """

    def __init__(self, mlflow: ModuleType | None, parent: str | None = None) -> None:
        self._mlflow, self._parent, self._name = mlflow, parent, ""
        self._tries = _TRIES
        self.lost: str | None = None
        """Why the store is incomplete; None if it is complete or there is none."""

    def params(self, values: dict[str, Any]) -> None:
        """Parameters, nested ones flattened to dotted names."""
        flat = [(name, redact(str(value))[:LONGEST]) for name, value in sorted(flatten(values).items())]
        for first in range(0, len(flat), BATCH):
            self._tell("log_params", dict(flat[first : first + BATCH]))

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

    def table(self, rows: list[dict[str, Any]], name: str) -> None:
        """A table, a dictionary for each row, as an artifact that MLflow's pages show as one."""
        if self._mlflow is not None and rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            self._tell("log_table", {key: [row.get(key) for row in rows] for key in columns}, name)

    def numbers(self, flat: dict[str, float], name: str) -> None:
        """Numbers by dotted or slashed names as a table: too many for the columns of all runs."""
        self.table([{"number": key, "value": value} for key, value in flat.items()], name)

    def datasets(self, described: dict[str, Any], config: dict[str, Any]) -> None:
        """Each calibration dataset as an MLflow input, with its full sha256."""
        if self._mlflow is not None:
            self._inputs(tracking_data.entries(described, config, "calibration"))

    def _inputs(self, datasets: list[Any]) -> None:
        self._of_this("log_inputs", datasets=datasets)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A nested run, ended as FAILED by an error and as KILLED by an interrupt."""
        return self.run(f"{self._name}: {name}" if self._name else name, nested=True)

    @contextmanager
    def run(self, name: str, nested: bool) -> Iterator[None]:
        """An MLflow run around a piece of work, sampling system metrics if it is the outermost."""
        self._tell(
            "start_run", run_name=name, nested=nested, log_system_metrics=not nested,
            parent_run_id=None if nested else self._parent,
        )  # fmt: skip
        if not nested:
            self._name = name
        run = self._mlflow.active_run().info.run_id if self._mlflow is not None else None
        with self._ended(lambda status: self._tell_end(run, status)):
            yield

    def _tell_end(self, run: str | None, status: str) -> None:
        if self._mlflow is not None:
            self._called(_end_run, self._mlflow, run, status)

    @contextmanager
    def _ended(self, tell: Callable[[str], None]) -> Iterator[None]:
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status, self._tries = "KILLED", 1
            _hurry(self._mlflow)
            raise
        finally:
            tell(status)

    def _of_this(self, function: str, **named: Any) -> None:
        if self._mlflow is not None:
            client, active = self._mlflow.MlflowClient(), self._mlflow.active_run()
            self._called(lambda: getattr(client, function)(active.info.run_id, **named))

    def _tell(self, function: str, *values: Any, **named: Any) -> None:
        if self._mlflow is not None:
            self._called(getattr(self._mlflow, function), *values, **named)

    def _called(self, call: Callable[..., Any], *values: Any, **named: Any) -> None:
        try:
            _again_if_passing(self._tries, call, *values, **named)
        except Exception as error:  # every store has its own family of exceptions
            mlflow, self._mlflow = self._mlflow, None
            assert mlflow is not None
            self.lost = redact(in_brief(error))
            console.print(
                f"MLflow stopped responding ({self.lost}): continuing without tracking", markup=False
            )
            _give_up(mlflow)


def _again_if_passing(tries: int, call: Callable[..., Any], *values: Any, **named: Any) -> None:
    """Make a call, retrying if another run wrote the same row or file, or if the reply broke off midway."""
    for left in reversed(range(tries)):
        try:
            call(*values, **named)
            return
        except Exception as error:
            if not left or not _PASSING.search(str(error)):
                raise
            time.sleep(_PAUSE)


def _end_run(mlflow: ModuleType, run: str, status: str) -> None:
    """End a run. `mlflow.end_run` forgets it before it calls the store: repeated, it would end another."""
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor as monitors

    active = mlflow.active_run()
    if active is not None and active.info.run_id == run:
        mlflow.end_run(status)
        return
    mlflow.MlflowClient().set_terminated(run, status)
    if (monitor := monitors.pop(run, None)) is not None:
        monitor.finish()


def _give_up(mlflow: ModuleType) -> None:
    """End the open runs as failed, if the store still responds, and the sampling of system metrics."""
    _hurry(mlflow)
    with suppress(Exception):
        for _ in range(_DEEPEST):
            mlflow.end_run("FAILED")


def _hurry(mlflow: ModuleType | None) -> None:
    """Try nothing again from now on, and do not wait for a thread that does."""
    if mlflow is None:
        return
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor as monitors

    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": _HURRIED}
    for run, monitor in list(monitors.items()):
        with suppress(Exception):
            monitor._shutdown_event.set()
            monitor._process.join(_PATIENCE)
            if monitor._process.is_alive():  # in a request: MLflow would wait until that has failed for good
                del monitors[run]
