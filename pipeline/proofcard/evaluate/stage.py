"""The stage `evaluate`: what is in its key, and the sealed folder of its results."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard import deciding, stage
from proofcard.checkpoint.source import Source
from proofcard.config.evaluating import EvaluateConfig
from proofcard.determinism import make_deterministic
from proofcard.digest import file_table, sha256_json
from proofcard.documents.manifest import Manifest
from proofcard.evaluate import report
from proofcard.evaluate.candidates import Candidate
from proofcard.evaluate.text_set import Texts
from proofcard.evaluate.weights import Checkpoint
from proofcard.files import listed
from proofcard.fingerprint import choose_device, lock_digest, numeric_platform, packages
from proofcard.ranks import Ranks
from proofcard.tracking import Tracker


@dataclass(frozen=True)
class Plan:
    """What an evaluation will do, known before it starts. `sealed` is the checkpoint's manifest."""

    source: Source
    checkpoint: Checkpoint
    sealed: Manifest | None
    candidates: tuple[Candidate, ...]
    texts: Texts
    origin: dict[str, Any]
    key: str
    final: Path
    reused: Manifest | None


def describe(
    config: EvaluateConfig,
    source: Source,
    checkpoint: Checkpoint,
    sealed: Manifest | None,
    candidates: tuple[Candidate, ...],
    read: Texts,
) -> dict[str, Any]:
    """What decides the numbers: settings, both folders with their digests, the texts. Reads both folders."""
    files = sealed.values()["outputs"]["files"] if sealed else None
    theirs = files or file_table(checkpoint.path, listed(checkpoint.path))
    return {
        "config": {
            "candidates": [candidate.name for candidate in candidates],
            "routes": config.evaluation.routes,
            "attn_implementation": config.model.attn_implementation,
            "resamples": config.evaluation.resamples,
            "seed": config.evaluation.seed,
        },
        "inputs": {
            "source": {"digest": sha256_json(source.files())},
            "checkpoint": {"digest": sha256_json(theirs), "key": sealed.key if sealed else None},
            "texts": {"digest": read.sha256(), "samples": read.samples_key},
        },
        "toolchain": {
            "packages": packages(*deciding.PACKAGES["evaluate"]),
            "code": deciding.digest(deciding.EVALUATE),
        },
    }


def make(config: EvaluateConfig, plan: Plan, tracker: Tracker, ranks: Ranks) -> Manifest | None:
    """Run both models through every layer and seal the results at `plan.final`.

    Returns its manifest, which only the leading rank writes.

    Raises:
        Usage: when the two folders do not hold the same model.
        Stop: when the device is missing, or a layer gives what is not finite.
    """
    from proofcard.evaluate import run
    from proofcard.evaluate.run import Work

    device = choose_device(config.hardware.device)
    make_deterministic(config.hardware.threads, config.seed)
    platform = numeric_platform(device)
    alike = sha256_json({"key": plan.key, "platform": platform})
    lead = stage.building(plan.final, alike)
    with lead if ranks.leads else nullcontext(stage.partial_of(plan.final)) as folder:
        ranks.wait()
        memory = int(config.hardware.activation_memory_gib * 2**30)
        recipe = plan.sealed.recipe if plan.sealed else None
        work = Work(
            config.model, config.evaluation, plan.source, plan.checkpoint, recipe, plan.candidates,
            plan.texts, plan.origin["inputs"], device, config.hardware.threads, config.seed, memory, folder,
            stage.state_of(plan.final), ranks,
        )  # fmt: skip
        statistics = run.make(work, lambda index, values: report.track_layer(tracker, index, values))
        if not ranks.leads:
            return None
        body = {
            "stage": "evaluate",
            "key": plan.key,
            "config": plan.origin["config"] | {"evaluation": config.evaluation.identity()},
            "inputs": plan.origin["inputs"],
            "toolchain": plan.origin["toolchain"] | {"lock": lock_digest()},
            "seeds": {"evaluation": config.evaluation.seed},
            "platform": platform,
            "statistics": statistics,
        }
        return stage.seal(folder, plan.final, body)
