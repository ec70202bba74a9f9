"""What the run of a checkpoint holds itself: its configuration, its data and its headline numbers.

Everything else is in the runs below it, one for each command.
"""

import time
from typing import Any

from proofcard.config.compose import flatten
from proofcard.documents.manifest import Manifest
from proofcard.redact import redact
from proofcard.tracking_data import entries
from proofcard.tracking_headlines import of_manifest

LONGEST = 6000
"""Characters of a parameter or a tag that MLflow takes."""
BATCH = 100
"""Parameters that MLflow takes at once."""
_SEALED = "manifest.seal"


def fill(client: Any, run: Any, sealed: Manifest) -> None:
    """Give a checkpoint's run what its manifest says, once."""
    if _SEALED in run.data.tags:
        return
    identifier = run.info.run_id
    params(client, run, sealed.config)
    if datasets := _object(sealed.inputs, "samples", "inputs", "datasets"):
        client.log_inputs(identifier, datasets=entries(datasets, _configured(sealed), "calibration"))
    for name, value in facts(sealed).items():
        client.set_tag(identifier, name, redact(value)[:LONGEST])
    metrics(client, identifier, of_manifest(sealed))
    client.set_tag(identifier, _SEALED, sealed.seal)


def params(client: Any, run: Any, configuration: dict[str, Any]) -> None:
    """Log a configuration, but for what the run has already: MLflow's parameters cannot be changed."""
    from mlflow.entities import Param

    known = run.data.params
    values = {name: redact(str(value))[:LONGEST] for name, value in sorted(flatten(configuration).items())}
    fresh = [Param(name, value) for name, value in values.items() if name not in known]
    for first in range(0, len(fresh), BATCH):
        client.log_batch(run.info.run_id, params=fresh[first : first + BATCH])


def metrics(client: Any, run: str, values: dict[str, float]) -> None:
    """Log numbers of a checkpoint on its run."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run, metrics=[Metric(name, value, now, 0) for name, value in values.items()])


def facts(sealed: Manifest) -> dict[str, str]:
    """What a description says of a checkpoint, as tags."""
    model, files, counts = _object(sealed.config, "model"), sealed.outputs.files, sealed.statistics
    size = sum(file.size for file in files.values())
    source = str(model.get("repository") or model.get("name"))
    commit = f" at {model['revision']}" if model.get("revision") else ""
    digest = _object(sealed.inputs, "source").get("digest", "unknown")
    datasets = ", ".join(_configured(sealed))
    counted = {name: counts.get(name, "?") for name in ("samples", "tokens", "quantizers")}
    return {
        "summary": str(_object(sealed.config, "recipe").get("summary", "")),
        "made_from": f"{source}{commit}, sha256 {digest} of its table of files",
        "calibrated_with": f"{counted['samples']} samples, {counted['tokens']} tokens: {datasets}",
        "content": f"{size / 1e6:,.1f} MB in {len(files)} files, {len(sealed.outputs.tensors)} tensors, "
        f"{counted['quantizers']} quantizers",
    }


def _configured(sealed: Manifest) -> dict[str, Any]:
    return _object(sealed.config, "calibration", "datasets")


def _object(values: Any, *path: str) -> dict[str, Any]:
    """A part of a manifest, which may be anybody's; nothing where it has another form."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}
