"""Finds the run that a word names: a checkpoint's folder, its key, or a run of MLflow by id or name."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard import manifest, tracking, tracking_headlines, tracking_parents
from proofcard.config.reproducing import ReproduceConfig
from proofcard.config.schema import Tracking
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import check_handed, plain
from proofcard.redact import redact
from proofcard.reproduce import recorded
from proofcard.tracking_store import connected

_ID = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"[0-9a-f]{8,64}")
_MEASURING = ("serve", "benchmark", "evaluate", "tasks")
_NAME = re.compile(r"[\w .:+@-]{1,250}")


@dataclass(frozen=True)
class Named:
    """What a word names: the values of a manifest, the checkpoint's run, and its headline figures.

    `measured` are the settings of the newest run of each command that has measured it, by COMMAND.NAME.
    """

    name: str
    values: dict[str, Any]
    run: str | None
    metrics: dict[str, float]
    measured: dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where a word leads: to a checkpoint's folder, or to runs of which one has its manifest."""

    word: str
    name: str
    folder: Path | None
    runs: tuple[str, ...]
    run: str | None
    metrics: dict[str, float]
    measured: dict[str, str]


@dataclass(frozen=True)
class Store:
    """A tracking store that answers: a client, and the experiment's id."""

    client: Any
    experiment: str


@contextmanager
def store(config: Tracking, work_dir: Path) -> Iterator[Store | None]:
    """The tracking store, if there is one.

    Raises:
        Usage: when it cannot be reached.
    """
    if tracking.is_off(config):
        yield None
        return
    with connected(config, work_dir) as (mlflow, _):
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(config.experiment)
        yield Store(client, experiment.experiment_id) if experiment is not None else None


def located(word: str, work_dir: Path, there: Store | None) -> Place:
    """Where the word leads.

    Raises:
        Usage: when it names nothing, saying where it was looked for.
    """
    folder = Path(word)
    if not folder.is_dir():
        folder = _by_key(word, work_dir) or folder
    if folder.is_dir():
        check_handed(folder)
        run = _of_checkpoint(manifest.read(folder).key, there)
        name = folder.absolute().name
        return Place(word, name, folder, (), run, _headlines(run, there), _settings(run, there))
    if there is None:
        raise Usage(f"{plain(word, 80)} is neither a folder nor the key of a checkpoint below {work_dir}")
    found = _run(word, there)
    own = found.info.run_id
    run = _of_checkpoint(str(found.data.tags.get("key")), there) or own
    runs, name = tuple(dict.fromkeys((own, run))), str(found.info.run_name)
    return Place(word, name, None, runs, run, _headlines(run, there), _settings(run, there))


def read(place: Place, config: Tracking, work_dir: Path) -> Named:
    """What is there. The tracking store must not be open.

    Raises:
        Usage: when it has no manifest of a checkpoint.
    """
    if place.folder is not None:
        values = recorded.of(manifest.read(place.folder), place.folder).body
    else:
        values = _manifest(place, config, work_dir)
    return Named(place.name, values, place.run, place.metrics, place.measured)


def _of_checkpoint(key: str, there: Store | None) -> str | None:
    """The run of the checkpoint with this key."""
    if there is None or _KEY.fullmatch(key) is None:
        return None
    return tracking_parents.found(there.client, there.experiment, key)


def _headlines(run: str | None, there: Store | None) -> dict[str, float]:
    metrics = dict(there.client.get_run(run).data.metrics) if there is not None and run is not None else {}
    return {name: value for name, value in metrics.items() if tracking_headlines.is_headline(name)}


def _settings(run: str | None, there: Store | None) -> dict[str, str]:
    """What the newest run of each measuring command below a checkpoint's run was asked for."""
    if there is None or run is None:
        return {}
    below = there.client.search_runs(
        [there.experiment], f"tags.`mlflow.parentRunId` = '{run}'", order_by=["attributes.start_time DESC"]
    )
    newest = {each.data.tags.get("command"): each for each in reversed(below)}
    return {
        f"{command}.{name}": str(value)
        for command in _MEASURING
        if command in newest
        for name, value in sorted(newest[command].data.params.items())
    }


def _by_key(word: str, work_dir: Path) -> Path | None:
    """The checkpoint below `work_dir` whose key begins with the word."""
    if _KEY.fullmatch(word) is None:
        return None
    for folder in sorted((work_dir / "checkpoints").glob(f"*-{word[:12]}*")):
        try:
            if manifest.read(folder).key.startswith(word):
                return folder
        except Stop:
            continue
    return None


def _run(word: str, there: Store) -> Any:
    """A run by its id, by the beginning of its checkpoint's key, or by name: the newest of that name."""
    if _NAME.fullmatch(word) is None:
        raise Usage(f"{plain(word, 80)} is neither a folder, a key nor the name of a run")
    where = f"attributes.run_name = '{word}'"
    if _KEY.fullmatch(word) is not None:
        where = f"tags.kind = '{tracking_parents.KIND}' AND tags.key LIKE '{word}%'"
    try:
        if _ID.fullmatch(word) is not None:
            return there.client.get_run(word)
        found = there.client.search_runs(
            [there.experiment], where, order_by=["attributes.start_time DESC"], max_results=2
        )
    except Exception as error:  # every store has its own family of exceptions
        raise Usage(f"the run {word} was not found in MLflow: {redact(one_line(error))[:200]}") from None
    if not found:
        raise Usage(f"{word} is no folder, and no run of the tracking store has this id, key or name")
    return found[0]


def _manifest(place: Place, config: Tracking, work_dir: Path) -> dict[str, Any]:
    """The manifest that one of the runs, or a run below it, has as an artifact."""
    fault: Usage | None = None
    for run in place.runs:
        asked = ReproduceConfig.model_construct(
            checkpoint=None, manifest=None, run=run, tracking=config, work_dir=work_dir
        )
        try:
            return recorded.read(asked).body
        except Usage as stop:
            fault = stop
    raise Usage(f"{place.word}: {fault}")
