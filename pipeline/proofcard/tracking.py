"""MLflow tracking: a run per checkpoint, with a child per command and its stages. Secrets are redacted."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from proofcard import tracking_checkpoint, tracking_data, tracking_models, tracking_page, tracking_parents
from proofcard.config.schema import Tracking
from proofcard.documents.manifest import Manifest
from proofcard.errors import Usage
from proofcard.progress import console
from proofcard.redact import redact
from proofcard.tracking_environment import command_line
from proofcard.tracking_environment import environment as _environment
from proofcard.tracking_headlines import headline_of
from proofcard.tracking_links import run_link
from proofcard.tracking_parents import Subject, of_sealed, subject_of
from proofcard.tracking_run import RunTracker
from proofcard.tracking_store import connected, file_of, lock_of, no_answer

__all__ = ["Subject", "Tracker", "is_off", "of_sealed", "opened", "subject_of"]

_CHILDREN = 500  # runs of a checkpoint that its description lists


class Tracker(RunTracker):
    """A command's interface to MLflow: its own runs, and the run and the model of its checkpoint."""

    def __init__(
        self,
        mlflow: ModuleType | None,
        parent: str | None = None,
        subject: Subject | None = None,
        store: Tracking | None = None,
    ) -> None:
        super().__init__(mlflow, parent)
        self._subject, self._store, self._model, self._version = subject, store, "", ""

    def link(self) -> str | None:
        """What to do to see the run that is open; None with tracking off."""
        if self._mlflow is None or self._store is None or (run := self._mlflow.active_run()) is None:
            return None
        return run_link(self._store, run.info.experiment_id, run.info.run_id)

    def data(self, name: str, sha256: str, context: str, **origin: str) -> Any:
        """A dataset with its full sha256 as an input of this run and of the checkpoint's; for `headlines`."""
        if self._mlflow is None:
            return None
        made = tracking_data.entry(name, sha256, context, origin)
        self._inputs([made])
        if self._subject is not None:
            self._of_parent("log_inputs", datasets=[made])
        return made.dataset

    def headlines(self, values: dict[str, float], dataset: Any = None) -> None:
        """Numbers of `HEADLINES` for this run, the checkpoint's and its model. `dataset` is `data`'s."""
        for name in values:
            headline_of(name)  # a name that nobody explains is a mistake of ours
        if self._mlflow is None or not values:
            return
        more = {"model_id": self._model, "dataset": dataset} if self._model else {}
        self._tell("log_metrics", values, step=0, **more)
        if self._parent is not None and self._subject is not None:
            client, parent = self._mlflow.MlflowClient(), self._parent
            self._called(lambda: tracking_checkpoint.metrics(client, parent, values))

    def configuration(self, values: dict[str, Any]) -> None:
        """The configuration of the checkpoint, as the parameters of its own run."""
        if self._mlflow is not None and self._parent is not None and self._subject is not None:
            client, parent = self._mlflow.MlflowClient(), self._parent
            self._called(lambda: tracking_checkpoint.params(client, client.get_run(parent), values))

    def checkpoint(self, sealed: Manifest, made: bool = False) -> None:
        """The checkpoint of this run, with its manifest: its run and its model get what they lack of it."""
        if self._mlflow is None or self._parent is None or self._subject is None:
            return
        mlflow, parent, subject, store = self._mlflow, self._parent, self._subject, self._store
        assert store is not None
        client = mlflow.MlflowClient()

        def call() -> None:
            from mlflow.entities import LoggedModelInput, LoggedModelOutput

            run = client.get_run(parent)
            tracking_checkpoint.fill(client, run, sealed)
            with lock_of(store):
                self._model, self._version = tracking_models.model_of(mlflow, run, subject, sealed)
            here = mlflow.active_run().info.run_id
            if made:
                client.log_outputs(here, models=[LoggedModelOutput(self._model, 0)])
            else:
                client.log_inputs(here, models=[LoggedModelInput(self._model)])

        self._called(call)

    def verified(self, holds: bool, why: str) -> None:
        """Give the checkpoint's registered version the alias `verified`, or take it away."""
        self._alias(tracking_models.VERIFIED, holds, why)

    def published(self, address: str) -> None:
        """Give the checkpoint's registered version the alias `published`: it was uploaded and read back."""
        self._alias(tracking_models.PUBLISHED, True, address)

    def _alias(self, alias: str, holds: bool, why: str) -> None:
        if self._mlflow is not None and self._subject is not None and self._version:
            client, subject, version = self._mlflow.MlflowClient(), self._subject, self._version
            self._called(lambda: tracking_models.set_alias(client, subject, version, alias, holds, why))

    @contextmanager
    def parent_running(self) -> Iterator[None]:
        """The checkpoint's run is in progress as long as this is, and ends as this does."""
        self._of_parent("update_run", "RUNNING")
        with self._ended(lambda status: self._of_parent("set_terminated", status)):
            yield

    def describe(self) -> None:
        """Compose the description of the checkpoint's run again, from what its runs say now."""
        if self._mlflow is None or self._parent is None or self._subject is None:
            return
        client, parent = self._mlflow.MlflowClient(), self._parent

        def call() -> None:
            run = client.get_run(parent)
            children = client.search_runs(
                [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=_CHILDREN,
                order_by=["attributes.start_time DESC"],
            )  # fmt: skip
            text = redact(tracking_page.of_checkpoint(run, children))
            client.set_tag(parent, tracking_page.NOTE, text)
            if self._model:
                client.set_logged_model_tags(self._model, {tracking_page.NOTE: text})

        self._called(call)

    def _of_parent(self, function: str, *values: Any, **named: Any) -> None:
        if self._mlflow is not None and self._parent is not None:
            client, parent = self._mlflow.MlflowClient(), self._parent
            self._called(lambda: getattr(client, function)(parent, *values, **named))


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
    `makes` the checkpoint decides the state of the checkpoint's run as well. The run is called `name`, the
    command's own unless it is given, with the checkpoint's. A link to it, or what has not all reached the
    store, is printed at the end.

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
            tracker = Tracker(mlflow, parent, subject, tracking)
        except Usage as stop:
            if tracking.create or file_of(tracking) is None:
                raise
            console.print(f"not tracked: {stop}", markup=False, soft_wrap=True)
            tracker, makes, outer = Tracker(None), False, None
        link = None
        running = tracker.parent_running() if makes and subject is not None else nullcontext()
        try:
            with running, tracker.run(_title(name or command, subject), nested=False):
                link = tracker.link()
                tags = {"command": command, "command_line": command_line(command)}
                tags |= _tags(subject, outer) | _environment()
                tracker.tags(tags | {tracking_page.NOTE: tracking_page.of_command(tags)})
                tracker.text(" ".join(sys.argv[1:]) + "\n", "overrides.txt")
                if subject is not None and subject.sealed is not None:
                    tracker.checkpoint(subject.sealed)
                yield tracker
        finally:
            tracker.describe()
            if link is not None and tracker.lost is None:
                console.print(f"MLflow: {link}", markup=False, soft_wrap=True)
            if tracker.lost is not None:
                console.print(
                    f"MLflow at {redact(str(tracking.uri))} has only a part of this run, or none: it "
                    f"stopped responding ({tracker.lost})",
                    markup=False, soft_wrap=True,
                )  # fmt: skip


def _title(name: str, subject: Subject | None) -> str:
    """The name of a command's run: what was done, to which checkpoint."""
    return f"{name} {subject.short}" if subject is not None else name


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
