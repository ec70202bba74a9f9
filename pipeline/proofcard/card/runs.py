"""The tracked run that left each document: found by the checkpoint's key, proved by the artifact's digest."""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proofcard.card.facts import file_name
from proofcard.config.schema import Tracking
from proofcard.documents.card import Run
from proofcard.evidence import Evidence
from proofcard.progress import console
from proofcard.tracking_links import is_server, run_page
from proofcard.tracking_store import connected

_MOST = 200  # runs that are looked through
_DEEPEST = 2  # folders of artifacts


def found(tracking: Tracking, work_dir: Path, key: str, documents: list[Evidence]) -> dict[str, Run]:
    """The run of each document, by the name of its copy. Documents that no run holds are left out."""
    sought = {one.sha256: one for one in documents}
    made: dict[str, Run] = {}
    with connected(tracking, work_dir) as (mlflow, _):
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is None:
            return {}
        runs = client.search_runs(
            [experiment.experiment_id], "tags.command != 'card'", max_results=_MOST,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        for run in runs:
            if run.data.tags.get("key", key) != key:
                continue
            for digest in _artifacts(client, run.info.run_id, {len(one.text.encode()) for one in documents}):
                if digest in sought:
                    one = sought[digest]
                    link = _link(tracking, experiment.experiment_id, run.info.run_id)
                    name = str(run.info.run_name)
                    made.setdefault(file_name(one), Run(id=run.info.run_id, name=name, link=link))
    if lacking := [file_name(one) for one in documents if file_name(one) not in made]:
        console.print(
            f"no tracked run holds {', '.join(lacking)}: the card does not link them to a run", soft_wrap=True
        )
    return made


def _artifacts(
    client: Any, run: str, sizes: set[int], folder: str | None = None, depth: int = 0
) -> list[str]:
    """The digests of a run's JSON artifacts that have one of the sizes."""
    digests = []
    for each in client.list_artifacts(run, folder):
        if each.is_dir and depth < _DEEPEST:
            digests += _artifacts(client, run, sizes, each.path, depth + 1)
        elif each.path.endswith(".json") and each.file_size in sizes:
            with TemporaryDirectory(prefix="card-") as here:
                path = Path(client.download_artifacts(run, each.path, here))
                digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return digests


def _link(tracking: Tracking, experiment: str, run: str) -> str | None:
    """The run's page, where the store is a server."""
    return run_page(tracking, experiment, run) if is_server(tracking) else None
