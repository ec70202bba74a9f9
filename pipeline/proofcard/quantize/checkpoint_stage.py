"""The stage `quantize`: what its key covers, and the sealed folder around an engine's output.

No byte of a tensor comes from here: an engine's `make` is the stage's work, `layerwise.run` or `modelopt`.
"""

import io
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import deciding, stage
from proofcard.calibration.batches import read_samples
from proofcard.checkpoint import ties
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.config.schema import QuantizeConfig
from proofcard.determinism import make_deterministic
from proofcard.digest import sha256_json
from proofcard.documents.manifest import Manifest
from proofcard.fingerprint import choose_device, lock_digest, numeric_platform, packages
from proofcard.progress import Bar
from proofcard.quantize import metrics, plots, tables
from proofcard.quantize.preparing import Work
from proofcard.quantize.statistics import CalibrationStatistics
from proofcard.ranks import Ranks
from proofcard.toolchain import Toolchain, activate
from proofcard.tracking import Tracker


@dataclass(frozen=True)
class Plan:
    """What a run will do, determined before it starts. `samples` and `checkpoint` are manifests to reuse.

    `mtp_tensors` names tensors of the source that go into the checkpoint although the model does not have
    them.
    """

    source: Source
    tools: Toolchain
    samples_from: dict[str, Any]
    samples_dir: Path
    samples: Manifest | None
    checkpoint_from: dict[str, Any]
    key: str
    final: Path
    checkpoint: Manifest | None
    mtp_tensors: tuple[str, ...] = ()


def describe(config: QuantizeConfig, source: Source, samples_key: str, tools: Toolchain) -> dict[str, Any]:
    """What decides the checkpoint: configuration, inputs with their digests, toolchain. Reads the source."""
    files = source.files()
    return {
        "config": deciding.settings(config)["quantize"],
        "inputs": {
            "source": {"digest": sha256_json(files), "files": files},
            "samples": {"key": samples_key},
        },
        "toolchain": {
            "patches": tools.describe(),
            "packages": packages(*deciding.PACKAGES["quantize"]),
            "code": deciding.digest(deciding.of_quantize(config.engine.name)),
        },
    }


def make(
    config: QuantizeConfig, plan: Plan, samples: Manifest, tracker: Tracker, ranks: Ranks
) -> Manifest | None:
    """Calibrate, write and seal the checkpoint at `plan.final`.

    Returns its manifest, which only the leading rank writes.

    Raises:
        Stop: when the device is missing, the source does not match its model, or calibration fails.
    """
    activate(plan.tools)
    ties.check(plan.source)
    device = choose_device(config.hardware.device)
    make_deterministic(config.hardware.threads, config.seed)  # part of what a resumed run must match
    tokens = read_samples(plan.samples_dir)
    chatter = io.StringIO()  # ModelOpt's output, which is tracked
    layerwise = config.engine.name == "layerwise"
    alike = sha256_json(
        {"key": plan.key, "platform": numeric_platform(device)}
    )  # layers of such runs may be combined
    lead = stage.building(plan.final, alike if layerwise else None)
    with lead if ranks.leads else nullcontext(stage.partial_of(plan.final)) as folder:
        ranks.wait()
        state = stage.state_of(plan.final)
        files = plan.checkpoint_from["inputs"]["source"]["files"]
        mtp, sample_set = plan.mtp_tensors, plan.samples_dir
        work = Work(config, plan.source, files, mtp, sample_set, device, folder, state, ranks)
        with redirect_stdout(chatter):
            statistics = (_layerwise if layerwise else _modelopt)(work, tokens, tracker)
        if not ranks.leads:
            return None
        tracker.text(chatter.getvalue(), "modelopt.log")
        body = {
            "stage": "quantize",
            "key": plan.key,
            "config": config.identity(),
            "inputs": plan.checkpoint_from["inputs"] | {"samples": _origin(samples)},
            "toolchain": plan.checkpoint_from["toolchain"] | {"lock": lock_digest()},
            "seeds": {"torch": config.seed, "sampling": config.calibration.sampling.seed},
            "platform": numeric_platform(device),
            "statistics": statistics
            | {
                "samples": len(tokens),
                "tokens": sum(len(ids) for ids in tokens),
                "tensors": len(read_folder(folder)),
            },
        }
        return stage.seal(folder, plan.final, body)


def _origin(samples: Manifest) -> dict[str, Any]:
    """What a manifest says of its sample set: its key, what that follows from, and what is in it."""
    return {
        "key": samples.key,
        "digest": sha256_json(samples.outputs.values()),
        "inputs": samples.inputs,
        "toolchain": {name: samples.toolchain[name] for name in ("packages", "code")},
    }


def _modelopt(work: Work, tokens: list[Any], tracker: Tracker) -> dict[str, Any]:
    """engine=modelopt: the whole model at once. Returns the manifest's statistics."""
    from proofcard.quantize import modelopt

    with Bar("calibrating", len(tokens), "samples") as bar:

        def progress(count: int, real: int, seconds: float) -> None:
            bar.advance(count)
            rates = {"by_samples/tokens_per_s": real / seconds}
            tracker.metrics(rates, step=bar.done)

        amaxes = modelopt.make(work, progress)
    for layer, values in metrics.by_layer(amaxes).items():
        tracker.metrics(values, step=layer)
    return {"quantizers": len(amaxes)}


def _layerwise(work: Work, tokens: list[Any], tracker: Tracker) -> dict[str, Any]:
    """engine=layerwise: one layer at a time, resuming an earlier run with the same key."""
    from proofcard.quantize.layerwise import run

    def report(index: int, record: dict[str, Any]) -> None:
        tracker.metrics(metrics.layer_metrics(record), step=index)

    statistics = run.make(work, report)
    weights = sum(name.endswith(".input_quantizer") for name in statistics.names)
    if work.ranks.leads:
        _show(statistics, work.folder, tracker)
    return {"quantizers": len(statistics.names) + weights} | metrics.totals(statistics)


def _show(statistics: CalibrationStatistics, folder: Path, tracker: Tracker) -> None:
    """Track tables, figures and the convergence of amaxes."""
    for count, values in metrics.convergence(statistics):
        tracker.metrics(values, step=count)
    for table in (tables.AMAX, tables.DATASETS, tables.COVERAGE):
        if (folder / table).exists():
            tracker.file(folder / table, "tables")
    for name, draw in plots.figures(statistics).items():
        tracker.figure(partial(draw, statistics), f"plots/{name}.png")
