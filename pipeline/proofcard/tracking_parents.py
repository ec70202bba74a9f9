"""The run of a checkpoint: everything that a command does with one checkpoint is a child of it.

The key is the link. Whoever comes first, on whichever day, makes the run; all others find it by its tags.
"""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from proofcard import manifest
from proofcard.errors import Stop, Usage

KIND = "checkpoint"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Subject:
    """The checkpoint that a command works on: its key, and what its recipe is called where that is known."""

    key: str
    recipe: str | None = None

    def __post_init__(self) -> None:
        if _SHA256.fullmatch(self.key) is None:  # it goes into a query
            raise Usage(f"the checkpoint's key, {self.key[:80]!r}, is not a sha256: see proofcard verify")

    @property
    def name(self) -> str:
        """What its run is called."""
        return f"{self.recipe or KIND}-{self.key[:12]}"


def subject_of(folder: Path) -> Subject | None:
    """The checkpoint in a folder; None when it was never sealed, or its manifest cannot be used."""
    try:
        sealed = manifest.read(folder)
    except Stop:
        return None
    return Subject(sealed.key, sealed.recipe)


def found_or_made(
    mlflow: ModuleType, experiment: str, subject: Subject, lock: AbstractContextManager[None]
) -> str:
    """The id of a checkpoint's run in an experiment. `lock` keeps other processes of this machine out.

    Two machines may still make one each on one server at the same moment: both take the one that is older,
    and the other is deleted by whoever made it.
    """
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name(experiment).experiment_id
    with lock:
        if existing := _oldest(client, place, subject):
            return existing
        tags = {"key": subject.key, "kind": KIND} | ({"recipe": subject.recipe} if subject.recipe else {})
        made: str = client.create_run(place, tags=tags, run_name=subject.name).info.run_id
        client.set_terminated(made)  # it is a place: only a quantize run in progress makes it a running one
        first = _oldest(client, place, subject) or made
    if first != made:
        client.delete_run(made)
    return first


def _oldest(client: object, experiment_id: str, subject: Subject) -> str | None:
    runs = client.search_runs(  # type: ignore[attr-defined]
        [experiment_id],
        filter_string=f"tags.kind = '{KIND}' AND tags.key = '{subject.key}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        max_results=1,
    )
    return runs[0].info.run_id if runs else None
