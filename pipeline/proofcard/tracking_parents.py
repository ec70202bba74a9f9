"""The parent run of a checkpoint: every command on that checkpoint is a child of it.

The key is the link. The first command creates the run; all later ones find it by its tags.
"""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from proofcard import manifest
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage

KIND = "checkpoint"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Subject:
    """The checkpoint that a command works on: its key, and its recipe's name and its manifest if known."""

    key: str
    recipe: str | None = None
    sealed: Manifest | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if _SHA256.fullmatch(self.key) is None:  # it goes into a query
            raise Usage(f"the checkpoint's key, {self.key[:80]!r}, is not a sha256: see proofcard verify")

    @property
    def name(self) -> str:
        """The name of its run."""
        return f"{self.recipe or KIND}-{self.key[:12]}"

    @property
    def short(self) -> str:
        """What names of other runs say of it."""
        return f"{self.recipe or KIND}-{self.key[:8]}"


def of_sealed(sealed: Manifest) -> Subject:
    """The checkpoint that a manifest describes."""
    return Subject(sealed.key, sealed.recipe, sealed)


def subject_of(folder: Path) -> Subject | None:
    """The checkpoint in a folder; None if it was never sealed, or its manifest is unusable."""
    try:
        return of_sealed(manifest.read(folder))
    except Stop:
        return None


def found_or_made(
    mlflow: ModuleType, experiment: str, subject: Subject, lock: AbstractContextManager[None]
) -> str:
    """The id of a checkpoint's run in an experiment. `lock` keeps other processes of this machine out.

    Two machines may still create one each on the same server: both use the older one,
    and the creator of the other deletes it.
    """
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name(experiment).experiment_id
    with lock:
        if existing := found(client, place, subject.key):
            return existing
        tags = {"key": subject.key, "kind": KIND} | ({"recipe": subject.recipe} if subject.recipe else {})
        made: str = client.create_run(place, tags=tags, run_name=subject.name).info.run_id
        client.set_terminated(made)  # it is a place: only a quantize run in progress makes it a running one
        first = found(client, place, subject.key) or made
    if first != made:
        client.delete_run(made)
    return first


def found(client: Any, experiment_id: str, key: str) -> str | None:
    """The id of the run of the checkpoint with this key, the oldest if there are several."""
    runs = client.search_runs(
        [experiment_id],
        filter_string=f"tags.kind = '{KIND}' AND tags.key = '{key}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        max_results=1,
    )
    return runs[0].info.run_id if runs else None
