"""The two stages of a planned run, samples and checkpoint, as `quantize` and `reproduce` run them."""

from contextlib import nullcontext
from pathlib import Path

from proofcard import manifest, tracking
from proofcard.calibration import sample_set as samples_stage
from proofcard.config import QuantizeConfig
from proofcard.digest import readable_json
from proofcard.documents.manifest import Manifest
from proofcard.quantize import checkpoint_stage as quantize_stage
from proofcard.quantize.checkpoint_stage import Plan
from proofcard.ranks import Ranks

_SHOWN = ("samples", "tokens", "truncated", "quantizers", "experts_cold")
"""Statistics that are metrics; the manifest, an artifact of the run, has all."""


def made(config: QuantizeConfig, plan: Plan, tracker: tracking.Tracker, team: Ranks) -> Manifest | None:
    """Both stages, in the tracked run of a command. Returns the checkpoint's manifest, or None."""
    with plan.source.downloading() if plan.checkpoint is None else nullcontext():
        tracker.params({"hardware": config.hardware.identity()})
        tracker.text(readable_json(config.model_dump(mode="json")), "config.json")
        with tracker.stage("samples"):
            samples = plan.samples or _samples(config, plan, team)
            tracker.datasets(samples.inputs["datasets"], samples.config["datasets"])
            _track(tracker, plan.samples_dir, samples, reused=plan.samples is not None)
        checkpoint = plan.checkpoint or quantize_stage.make(config, plan, samples, tracker, team)
        if checkpoint is not None:
            _track(tracker, plan.final, checkpoint, reused=plan.checkpoint is not None)
    return checkpoint


def _samples(config: QuantizeConfig, plan: Plan, team: Ranks) -> Manifest:
    """The sample set, drawn by the leading rank for all."""
    if team.leads:
        made = samples_stage.make(config, plan.samples_from, plan.samples_dir)
        team.wait()
        return made
    team.wait()
    return manifest.read(plan.samples_dir)


def _track(tracker: tracking.Tracker, folder: Path, sealed: Manifest, reused: bool) -> None:
    """What a stage made, its manifest whole: `reproduce run=…` needs nothing else of it."""
    tracker.params({"seeds": sealed.seeds})
    tracker.metrics({k: float(v) for k, v in sealed.statistics.items() if k in _SHOWN and isinstance(v, int)})
    tracker.tags({"key": sealed.key, "reused": str(reused).lower()})
    tracker.file(folder / manifest.NAME)
