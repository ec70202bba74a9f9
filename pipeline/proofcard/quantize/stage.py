"""The stage `quantize`: load, calibrate, export, complete, seal."""

import io
import json
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import stage
from proofcard.calibration import tokenizer
from proofcard.calibration.batches import BATCHING, Batch, batches, read_samples
from proofcard.checkpoint import carried, ties
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import code_digest, sha256_json
from proofcard.documents.manifest import Manifest
from proofcard.fingerprint import choose_device, lock_digest, numeric_platform, packages, settle
from proofcard.progress import Bar
from proofcard.quantize import further, plots, statistics, tables
from proofcard.quantize.fit import modules_of
from proofcard.ranks import Ranks
from proofcard.toolchain import Toolchain, activate
from proofcard.tracking import Tracker

QUANTIZATION = "hf_quant_config.json"


@dataclass(frozen=True)
class Plan:
    """What a run will do, known before it starts. `samples` and `checkpoint` are manifests to reuse.

    `further` names tensors of the source that go into the checkpoint although the model does not have them.
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
    further: tuple[str, ...] = ()


def describe(config: QuantizeConfig, source: Source, samples_key: str, tools: Toolchain) -> dict[str, Any]:
    """What decides the checkpoint: configuration, inputs with their digests, toolchain. Reads the source."""
    chosen = config.identity()
    calibration = chosen["calibration"]
    files = source.files()
    return {
        "config": {
            "attn_implementation": config.model.attn_implementation,
            "quantization": chosen["quantization"],
            "coverage": chosen["coverage"],
            "kv_cache": chosen["kv_cache"],
            "engine": chosen["engine"],
            "batching": {name: calibration[name] for name in BATCHING},
            "seed": config.seed,
        },
        "inputs": {
            "source": {"digest": sha256_json(files), "files": files},
            "samples": {"key": samples_key},
        },
        "toolchain": {
            "patches": tools.describe(),
            "packages": packages("accelerate", "numpy", "safetensors", "tokenizers", "torch", "transformers"),
            "code": code_digest("quantize", "checkpoint", "nvfp4", "calibration/batches.py"),
        },
    }


def make(
    config: QuantizeConfig, plan: Plan, samples: Manifest, tracker: Tracker, ranks: Ranks
) -> Manifest | None:
    """Calibrate and write the checkpoint, sealed at `plan.final`.

    Returns its manifest, which only the leading rank writes.

    Raises:
        Stop: when the device is missing, the source does not fit its model, or calibration fails.
    """
    activate(plan.tools)
    ties.check(plan.source)
    device = choose_device(config.hardware.device)
    settle(config.hardware.threads, config.seed)
    tokens = read_samples(plan.samples_dir)
    groups = list(batches(tokens, config.calibration, _pad_id(config, plan.source)))
    chatter = io.StringIO()  # ModelOpt prints what it finds; a reader of the run may want it
    layerwise = config.engine.name == "layerwise"
    alike = sha256_json({"key": plan.key, "platform": numeric_platform(device)})  # layers may go together
    lead = stage.building(plan.final, alike if layerwise else None)
    with lead if ranks.leads else nullcontext(stage.partial_of(plan.final)) as partial:
        ranks.wait()
        engine = _layerwise if layerwise else _modelopt
        with redirect_stdout(chatter):
            found = engine(config, plan, groups, device, partial, tracker, ranks)
        if not ranks.leads:
            return None
        tracker.text(chatter.getvalue(), "modelopt.log")
        complete(partial, plan)
        body = {
            "stage": "quantize",
            "key": plan.key,
            "config": config.identity(),
            "inputs": plan.checkpoint_from["inputs"]
            | {"samples": {"key": samples.key, "digest": sha256_json(samples.outputs.values())}},
            "toolchain": plan.checkpoint_from["toolchain"] | {"lock": lock_digest()},
            "seeds": {"torch": config.seed, "sampling": config.calibration.sampling.seed},
            "platform": numeric_platform(device),
            "statistics": found
            | {
                "samples": len(tokens),
                "tokens": sum(len(ids) for ids in tokens),
                "tensors": len(read_folder(partial)),
            },
        }
        return stage.seal(partial, plan.final, body)


def _modelopt(
    config: QuantizeConfig,
    plan: Plan,
    groups: list[Batch],
    device: str,
    folder: Path,
    tracker: Tracker,
    ranks: Ranks,
) -> dict[str, Any]:
    """engine=modelopt: the whole model at once."""
    from proofcard.quantize import modelopt
    from proofcard.quantize.model import load

    model = load(plan.source, config.model, device)
    with Bar("calibrating", sum(len(batch.input_ids) for batch in groups), "samples") as bar:

        def progress(count: int, real: int, seconds: float) -> None:
            bar.advance(count)
            rates = {"samples_per_second": count / seconds, "tokens_per_second": real / seconds}
            tracker.metrics(rates, step=bar.done)

        model = modelopt.calibrate(model, groups, config, progress)
    amaxes = modelopt.amaxes(model)
    for layer, values in by_layer(amaxes).items():
        tracker.metrics(values, step=layer)
    if config.quantization.dequantize_to == "float32":
        modelopt.keep_fp8(model, plan.source)
    modelopt.export(model, folder)
    return {"quantizers": len(amaxes)}


def _layerwise(
    config: QuantizeConfig,
    plan: Plan,
    groups: list[Batch],
    device: str,
    folder: Path,
    tracker: Tracker,
    ranks: Ranks,
) -> dict[str, Any]:
    """engine=layerwise: one layer at a time; what a former run of the same key finished is kept."""
    from proofcard.quantize.layerwise.run import Run
    from proofcard.quantize.layerwise.stretches import marks

    run = Run(config, plan.source, groups, device, folder, stage.state_of(plan.final), ranks)
    records: list[dict[str, Any]] = []

    def report(index: int, record: dict[str, Any]) -> None:
        tracker.metrics(statistics.layer_metrics(record), step=index)

    records = run.layers(report)
    found = statistics.gather(records, groups, marks(groups))
    weights = sum(name.endswith(".input_quantizer") for name in found.names)
    if ranks.leads:
        _tell(found, tables.write(folder, found), tracker)
    return {"quantizers": len(found.names) + weights} | statistics.totals(found)


def _tell(found: statistics.Found, written: list[Path], tracker: Tracker) -> None:
    """Tables, figures and how the amaxes converged, once they are known."""
    for count, values in statistics.convergence(found):
        tracker.metrics(values, step=count)
    for table in written:
        tracker.file(table, "tables")
    for name, draw in plots.figures(found).items():
        tracker.figure(partial(draw, found), f"plots/{name}.png")


def complete(folder: Path, plan: Plan) -> None:
    """Make an engine's export whole: heads for further tokens, config.json, and what else engines read.

    Raises Stop when not all of the source is as the checkpoint's key says.
    """
    source = plan.source
    source.whole()
    names = list(plan.further)
    further.write(folder, source, names)
    quant = json.loads((folder / QUANTIZATION).read_text(encoding="utf-8"))
    quantization = json.loads((folder / carried.CONFIG).read_text(encoding="utf-8"))["quantization_config"]
    if excluded := modules_of(names):
        for patterns, key in ((quant["quantization"], "exclude_modules"), (quantization, "ignore")):
            patterns[key] = [*(patterns.get(key) or ()), *excluded]
        (folder / QUANTIZATION).write_text(json.dumps(quant, indent=4), encoding="utf-8")
    (folder / carried.CONFIG).write_text(carried.config(source.config, quantization), encoding="utf-8")
    carried.carry(source.path, plan.checkpoint_from["inputs"]["source"]["files"], folder)


def by_layer(amaxes: dict[str, float]) -> dict[int, dict[str, float]]:
    """Per layer, the largest amax of each kind of quantizer: `{layer: {"amax/input": …}}`."""
    layers: dict[int, dict[str, float]] = {}
    for name, value in amaxes.items():
        steps = name.split(".")
        numbers = [int(step) for step in steps if step.isdigit()]
        if not numbers:
            continue
        kind = "amax/" + steps[-1].removesuffix("_quantizer")
        layer = layers.setdefault(numbers[0], {})
        layer[kind] = max(layer.get(kind, 0.0), value)
    return dict(sorted(layers.items()))


def _pad_id(config: QuantizeConfig, source: Source) -> int:
    """What pads: the tokenizer's padding token, or its end-of-sequence token, as ModelOpt's example does."""
    words = tokenizer.opened(source.path, config.model.remote_code)
    chosen = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    return int(chosen or 0)
