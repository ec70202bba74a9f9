"""Import published numbers into MLflow as runs marked `published`, so that one's own runs stand beside them.

    python mlflow/import_reference.py                                # runs/mlflow.db
    python mlflow/import_reference.py --uri http://127.0.0.1:5000    # a server

Each file of mlflow/reference is one run. A file whose content is in the store already has no effect; one that
has changed replaces its run. Metrics have the names that `benchmark` and `tasks` give theirs.
"""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from proofcard.config.benchmarking import Published
from proofcard.config.schema import Tracking
from proofcard.digest import sha256_json
from proofcard.screen import in_markdown
from proofcard.tracking_page import NOTE
from proofcard.tracking_store import connected, lock_of

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "mlflow" / "reference"
KIND, DIGEST, FILE = "published", "reference.sha256", "reference.file"


@dataclass(frozen=True)
class Reference:
    """Published numbers as a run: its name, tags, parameters, and metrics by step."""

    file: str
    name: str
    source: str
    date: str
    params: dict[str, str]
    points: tuple[tuple[str, float, int], ...]

    @property
    def digest(self) -> str:
        """The sha256 of everything that the run shows."""
        return sha256_json([self.file, self.name, self.source, self.date, self.params, self.points])


def main() -> None:
    """Import every file and say what was new."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--uri", default="sqlite:///runs/mlflow.db")
    words.add_argument("--experiment", default="proofcard")
    given = words.parse_args()
    made = imported(Tracking(uri=given.uri, experiment=given.experiment))
    print(f"published numbers: {made} runs imported, {len(references()) - made} unchanged")


def imported(tracking: Tracking, work_dir: Path = Path("runs")) -> int:
    """Import what the store does not have; returns how many runs were made."""
    made = 0
    with connected(tracking, work_dir) as (mlflow, _), lock_of(tracking):
        client = mlflow.MlflowClient()
        place = client.get_experiment_by_name(tracking.experiment).experiment_id
        for reference in references():
            there = client.search_runs([place], f"tags.`{FILE}` = '{reference.file}'")
            if any(run.data.tags.get(DIGEST) == reference.digest for run in there):
                continue
            _log(client, place, reference)
            made += 1
            for run in there:
                client.delete_run(run.info.run_id)
    return made


def references() -> list[Reference]:
    """Every file of mlflow/reference, by name."""
    return [_read(path) for path in sorted(REFERENCE.glob("*.yaml"))]


def _read(path: Path) -> Reference:
    values = _yaml(path)
    if "throughput" in values:
        table = values["throughput"]
        published = Published.model_validate(_yaml(ROOT / table) if isinstance(table, str) else table)
        params = {"setting": published.setting, "most_running": str(published.most_running)}
        points = [("by_users/tokens_per_s", rate, users) for users, rate in published.aggregate.items()]
        points += [("by_users/tokens_per_s_user", rate, users) for users, rate in published.per_user.items()]
        points.append(("tokens_per_s", max(published.aggregate.values()), 0))
        source = published.source
    else:
        quality, source = values["quality"], values["source"]
        params = {side: quality[side] for side in ("reference", "candidate")}
        points = _scores(_yaml(ROOT / quality["tasks"])["tasks"], quality["reference"], quality["candidate"])
    return Reference(path.name, values["name"], source, str(values["date"]), params, tuple(points))


def _scores(tasks: dict[str, Any], reference: str, candidate: str) -> list[tuple[str, float, int]]:
    """Both scores of each task, and the lowest share that was kept."""
    printed = {name: task["published"] for name, task in tasks.items()}
    points = [(f"{name}/reference", each[reference], 0) for name, each in printed.items()]
    points += [(f"{name}/candidate", each[candidate], 0) for name, each in printed.items()]
    return [
        *points,
        ("task_recovery", min(each[candidate] / each[reference] for each in printed.values()), 0),
    ]


def _log(client: Any, place: str, reference: Reference) -> None:
    from mlflow.entities import Metric, Param, RunTag

    text = (
        f"**Published, not measured here.** {in_markdown(reference.source)}, read in {reference.date}.\n\n"
        f"From `mlflow/reference/{reference.file}`; `python mlflow/import_reference.py` brings it up to date."
    )
    tags = {
        "kind": KIND, "command": KIND, "published": "true", "source": reference.source,
        "date": reference.date, FILE: reference.file, DIGEST: reference.digest, NOTE: text,
    }  # fmt: skip
    read = int(datetime.fromisoformat(reference.date).replace(tzinfo=UTC).timestamp() * 1000)
    run = client.create_run(place, start_time=read, run_name=f"{reference.name} (published)").info.run_id
    client.log_batch(
        run,
        metrics=[Metric(metric, value, read, step) for metric, value, step in reference.points],
        params=[Param(key, value) for key, value in reference.params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(run, end_time=read)


def _yaml(path: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict), path
    return {str(key): value for key, value in values.items()}


if __name__ == "__main__":
    main()
