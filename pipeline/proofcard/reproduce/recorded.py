"""Reads what to rebuild: a manifest from a sealed checkpoint, from a file, or from an MLflow run.

A manifest is untrusted: its seal is a digest that anybody can recompute. Its consistency can be checked:
the seal, the typed fields, and the keys, which follow from the other fields.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proofcard import deciding, files, json_files, manifest, tracking_store
from proofcard.config import QuantizeConfig, ReproduceConfig
from proofcard.documents.base import Document, Json, Sha256, fault
from proofcard.documents.manifest import FileEntry, Manifest
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import plain
from proofcard.redact import redact

_STAGE = "quantize"
_PARENT = "mlflow.parentRunId"
_COMMIT = "mlflow.source.git.commit"
_COMMIT_NAME = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Recorded:
    """A consistent manifest. `folder` holds the checkpoint's bytes, if they are available.

    `commit` is the program's own and `seconds` how long the work took, where an MLflow run says so.
    """

    body: dict[str, Any]
    folder: Path | None = None
    commit: str | None = None
    seconds: float | None = None

    @property
    def recipe(self) -> str | None:
        """What it calls its recipe, if it names one."""
        recipe = self.body["config"].get("recipe")
        name = recipe.get("name") if isinstance(recipe, dict) else None
        return name if isinstance(name, str) else None


def read(config: ReproduceConfig) -> Recorded:
    """The requested manifest.

    Raises:
        Stop: when there is none, it was altered, or it is not a checkpoint's.
    """
    if config.checkpoint is not None:
        if not config.checkpoint.is_dir():
            raise Usage(f"checkpoint={config.checkpoint} is not a folder")
        files.check_handed(config.checkpoint)
        return Recorded(
            _of_checkpoint(manifest.read(config.checkpoint), str(config.checkpoint)), config.checkpoint
        )
    if config.manifest is not None:
        return Recorded(_of_file(config.manifest, str(config.manifest)))
    return _of_run(config)


def _of_file(path: Path, shown: str) -> dict[str, Any]:
    try:
        content = files.read_bytes(path, None, json_files.TABLE)
    except FileNotFoundError:
        raise Usage(f"manifest={shown} does not exist") from None
    return _of_checkpoint(manifest.parsed(content, shown), shown)


def of(sealed: Manifest, folder: Path) -> Recorded:
    """What a sealed checkpoint in `folder` records. Raises Usage when it is another stage's."""
    return Recorded(_of_checkpoint(sealed, str(folder)), folder)


def values(sealed: Manifest) -> dict[str, Any]:
    """What a manifest seals, as JSON values: all of it but the seal."""
    return {name: value for name, value in sealed.values().items() if name != "seal"}


def _of_checkpoint(sealed: Manifest, shown: str) -> dict[str, Any]:
    """The values of a manifest that is one of a checkpoint."""
    if sealed.stage != _STAGE:
        raise Usage(
            f"{shown} is the manifest of stage {plain(sealed.stage, 40)!r}: pass that of a checkpoint"
        )
    try:
        _Inputs.model_validate(sealed.inputs)
    except ValidationError as error:
        raise Usage(f"{shown}: the manifest does not name its inputs as specified: {fault(error)}") from None
    return values(sealed)


class _Source(Document):
    digest: Sha256
    files: dict[str, FileEntry]


class _SampleOrigin(Document):
    datasets: dict[str, dict[str, Json]]
    tokenizer: dict[str, Json]


class _Samples(Document):
    """`inputs` and `toolchain` are missing in manifests of earlier versions."""

    key: Sha256
    digest: Sha256
    inputs: _SampleOrigin | None = None
    toolchain: dict[str, Json] | None = None


class _Inputs(Document):
    """What the manifest of a checkpoint says of its inputs."""

    source: _Source
    samples: _Samples


def _of_run(config: ReproduceConfig) -> Recorded:
    """The manifest that a run of `quantize`, or the run above it, has as an artifact."""
    assert config.run is not None
    store = redact(str(config.tracking.uri))
    with (
        tracking_store.connected(config.tracking, config.work_dir) as (mlflow, _),
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            client = mlflow.MlflowClient()
            run = client.get_run(config.run)
            below = client.search_runs([run.info.experiment_id], f"tags.`{_PARENT}` = '{config.run}'")
        except Exception as error:  # every store has its own family of exceptions
            raise Usage(f"run={config.run} is not in {store}: {redact(one_line(error))[:200]}") from None
        named = [each for each in below if _STAGE in (each.data.tags.get("command"), each.info.run_name)]
        parents = [run.data.tags.get(_PARENT)] if run.data.tags.get(_PARENT) else []
        for candidate in (run, *named):
            path = _downloaded(client, candidate.info.run_id, Path(folder))
            if path is not None:
                above = [client.get_run(one) for one in parents]
                tags = [each.data.tags.get(_COMMIT) for each in (candidate, run, *above)]
                body = _of_file(path, f"the manifest of run {candidate.info.run_id}")
                commit = next((tag for tag in tags if _COMMIT_NAME.fullmatch(tag or "")), None)
                return Recorded(body, commit=commit, seconds=_seconds(candidate))
    raise Usage(
        f"run={config.run} of {store} has no {manifest.NAME}: name a run of quantize, or the run above it"
    )


def _downloaded(client: Any, run_id: str, folder: Path) -> Path | None:
    """The run's manifest on this disk, if it has one that is a checkpoint's."""
    try:
        sizes = {item.path: item.file_size or 0 for item in client.list_artifacts(run_id)}
        if sizes.get(manifest.NAME, json_files.TABLE + 1) > json_files.TABLE:
            return None
        target = folder / run_id
        target.mkdir()
        return Path(client.download_artifacts(run_id, manifest.NAME, str(target)))
    except Exception as error:
        raise Stop(
            f"MLflow did not return the manifest of run {run_id}: {redact(one_line(error))[:200]}"
        ) from None


def _seconds(run: Any) -> float | None:
    """How long a run took that made what it names."""
    began, ended = run.info.start_time, run.info.end_time
    if run.data.tags.get("reused") != "false" or not began or not ended:
        return None
    return float(ended - began) / 1000


def check_keys(recorded: Recorded, config: QuantizeConfig) -> None:
    """Check that the keys follow from the other fields, which detects an edited and resealed field.

    The rule that forms a key is part of the code. If the recorded code differs from this one, no key is
    checked: `environment_differences` lists the difference. `config` is the recorded one.

    Raises:
        Usage: when a key does not follow, naming it.
    """
    body = recorded.body
    seeds = {"torch": config.seed, "sampling": config.calibration.sampling.seed}
    if any(body["seeds"].get(name) not in (None, seed) for name, seed in seeds.items()):
        raise Usage(
            f"the manifest's seeds {body['seeds']} are not those of its config {seeds}: it was edited"
        )
    inputs, toolchain = body["inputs"], _without_surroundings(body["toolchain"])
    samples = inputs["samples"]
    settings = deciding.settings(config)
    adapters = [dataset.adapter for dataset in config.calibration.datasets.values()]
    if samples.get("inputs") and samples.get("toolchain"):
        same_rule = samples["toolchain"].get("code") == deciding.digest(deciding.of_samples(adapters))
        key = manifest.key_of("samples", settings["samples"], samples["inputs"], samples["toolchain"])
        if same_rule and key != samples["key"]:
            raise Usage(
                "the manifest's inputs.samples.key does not follow from its calibration settings and the "
                "datasets it names: one of them was edited after it was made"
            )
    same_rule = toolchain.get("code") == deciding.digest(deciding.of_quantize(config.engine.name))
    decided = {"source": inputs["source"], "samples": {"key": samples["key"]}}
    if same_rule and manifest.key_of(_STAGE, settings["quantize"], decided, toolchain) != body["key"]:
        raise Usage(
            "the manifest's key does not follow from its config, inputs and toolchain: one of them was "
            "edited after it was made"
        )


def _without_surroundings(toolchain: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in toolchain.items() if name not in ("lock", "environment")}
