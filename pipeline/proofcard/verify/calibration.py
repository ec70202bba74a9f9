"""Level `calibration`: do input and KV scales follow from the source and the samples?

They are recomputed through the streaming engine, by the configuration that the manifest records. On the
recorded numeric platform every scale must be exact; on another one, within the bound that the recipe states.
This level alone runs the model, so it needs torch and ModelOpt, and compares with the program that made the
checkpoint: what it proves is that the scales belong to these weights and samples.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from proofcard import manifest, stage
from proofcard.checkpoint import calibrated
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.config import QuantizeConfig, ReproduceConfig, VerifyConfig
from proofcard.config.schema import HubAddress, Tracking
from proofcard.determinism import make_deterministic
from proofcard.digest import is_sealed, sha256_json
from proofcard.errors import Stop
from proofcard.files import plain
from proofcard.fingerprint import choose_device, numeric_platform
from proofcard.progress import Bar
from proofcard.reproduce.configuring import configured, sample_set
from proofcard.reproduce.recorded import Recorded, check_keys
from proofcard.toolchain import activate, materialise
from proofcard.verify.report import Finding, Level

_STAGE = "activations"


def check(source: Source, request: VerifyConfig, record: Recorded) -> Level:
    """Recompute the scales of the requested layers, and compare them with those of the recorded checkpoint.

    Raises:
        Stop: when an input is missing, or the model cannot be run.
    """
    level = Level("calibration")
    folder, sealed = record.folder, record.body
    assert folder is not None
    words = _as_reproduction(folder, request)
    if sample_set(record, words) is None:
        key = plain(sealed["inputs"]["samples"].get("key", ""), 64)
        level.unchecked.append(f"it needs the sample set of key {key}: samples=DIR")
        return level
    config = configured(record, words)
    check_keys(record, config)
    if (other := _another_source(source, sealed)) is not None:
        level.unchecked.append(f"the source is not the recorded one: {plain(other)} differs")
        return level
    begin = _activations(level, request.activations, sealed)
    recomputed, platform = _recomputed(level, config, source, request, begin, sealed)
    same = platform == sealed["platform"]
    bound = config.ulp_bound if request.ulp_bound is None else request.ulp_bound
    _compare(level, recomputed, read_folder(folder), None if same else bound)
    if not same:
        names = [
            n
            for n in sorted({*platform, *sealed["platform"]})
            if platform.get(n) != sealed["platform"].get(n)
        ]
        level.notes.append(
            f"the numeric platform differs from the recorded one ({', '.join(names)}): {bound} ULP allowed"
        )
    return level


def _as_reproduction(folder: Path, request: VerifyConfig) -> ReproduceConfig:
    """The same request as a configuration of `reproduce`, which locates source and samples by a manifest."""
    assert not isinstance(request.source, HubAddress)  # refused before
    return ReproduceConfig(
        checkpoint=folder, manifest=None, run=None, source=request.source, datasets={},
        samples=request.samples, remote_code=request.remote_code, device=None, threads=None,
        activation_memory_gib=16, ulp_bound=None,
        strict=False, output_dir=None, report=None, tracking=Tracking(uri=None, experiment="proofcard"),
        work_dir=request.work_dir,
    )  # fmt: skip


def _another_source(source: Source, sealed: dict[str, Any]) -> str | None:
    """The first file of the source that is not as recorded."""
    before, now = sealed["inputs"]["source"]["files"], source.files()
    return next((n for n in sorted({*before, *now}) if before.get(n) != now.get(n)), None)


def _activations(level: Level, folder: Path | None, sealed: dict[str, Any]) -> dict[int, Path]:
    """Files of hidden states by the layer that they go into, as their publisher sealed them.

    Raises:
        Stop: when they are not intact, or not those of this checkpoint.
    """
    from proofcard.quantize.layerwise.recalibrate import layer_of

    if folder is None:
        return {}
    body = manifest.read(folder).values()
    if body["stage"] != _STAGE or body["inputs"] != _origin(sealed):
        raise Stop(f"activations={folder} does not belong to this checkpoint, its source and its samples")
    begin = {}
    for name, entry in body["outputs"]["files"].items():
        layer = layer_of(name)
        if layer is None or not is_sealed(folder / name, folder, entry["size"], entry["sha256"]):
            raise Stop(f"activations={folder}: {plain(name)} is not what was sealed")
        begin[layer] = folder / name
    level.notes.append(
        f"hidden states before layers {', '.join(map(str, sorted(begin)))} were taken as published"
    )
    return begin


def _origin(sealed: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint, source and samples that hidden states belong to."""
    inputs = sealed["inputs"]
    return {
        "checkpoint": sealed["key"],
        "source": inputs["source"]["digest"],
        "samples": inputs["samples"]["digest"],
    }


def _recomputed(
    level: Level,
    config: QuantizeConfig,
    source: Source,
    request: VerifyConfig,
    begin: dict[int, Path],
    sealed: dict[str, Any],
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Every scale of the requested layers by name, and the numeric platform that computed them."""
    activate(materialise(config.toolchain.series, request.work_dir / "toolchains"))
    from proofcard.calibration.batches import batches, read_samples
    from proofcard.quantize.layerwise.recalibrate import Recalibration
    from proofcard.quantize.preparing import pad_id

    device = choose_device(config.hardware.device)
    make_deterministic(config.hardware.threads, config.seed)
    frozen = config.calibration.frozen
    assert frozen is not None
    groups = list(batches(read_samples(frozen), config.calibration, pad_id(config, source)))
    request.work_dir.mkdir(parents=True, exist_ok=True)
    scales: dict[str, bytes] = {}
    chatter = redirect_stdout(io.StringIO())  # of ModelOpt
    with chatter, tempfile.TemporaryDirectory(prefix=".calibration-", dir=request.work_dir) as state:
        again = Recalibration(config, source, groups, device, Path(state))
        wanted = set(range(again.layers) if request.layers is None else request.layers)
        last = max(wanted, default=-1) + 1
        with (
            Bar("recalibrating", last, "layers") as bar,
            _keeping(request.keep_activations, config, sealed) as keep,
        ):
            for layer in again.scales(wanted, begin, keep, lambda index: bar.advance(index + 1 - bar.done)):
                scales |= layer.values
                level.counts["layers"] += 1
    return scales, numeric_platform(device)


class _keeping:
    """A folder for hidden states, sealed once all are written; None if they are not kept."""

    def __init__(self, final: Path | None, config: QuantizeConfig, sealed: dict[str, Any]) -> None:
        self._final, self._config, self._sealed = final, config, sealed
        self._building: Any = None

    def __enter__(self) -> Path | None:
        if self._final is None:
            return None
        self._building = stage.building(self._final)
        self._folder: Path = self._building.__enter__()
        return self._folder

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._building is None or self._final is None:
            return
        if error is None:
            inputs = _origin(self._sealed)
            device = choose_device(self._config.hardware.device)
            body = {
                "stage": _STAGE,
                "key": sha256_json({"stage": _STAGE, "inputs": inputs}),
                "config": {},
                "inputs": inputs,
                "toolchain": self._sealed["toolchain"],
                "seeds": {},
                "platform": numeric_platform(device),
                "statistics": {},
            }
            stage.seal(self._folder, self._final, body)
        self._building.__exit__(kind, error, trace)


def _compare(
    level: Level, recomputed: dict[str, bytes], stored: dict[str, Tensor], bound: int | None
) -> None:
    """Compare every recomputed scale with the stored one. `bound` in ULP; None: exact."""
    apart: list[tuple[int, str]] = []
    for name, value in recomputed.items():
        tensor = stored.get(name)
        if tensor is None:
            level.add(
                Finding(
                    "missing", "calibration produces it, but the checkpoint does not have it", tensor=name
                )
            )
            continue
        level.counts["scales"] += 1
        stored_bytes = tensor.raw().tobytes()
        ulp = calibrated.distance(name, value, stored_bytes)
        if ulp is not None and 0 < ulp <= (bound or 0):
            apart.append((ulp, name))
        elif ulp != 0:
            far = (
                "its value cannot be compared"
                if ulp is None
                else f"it is {ulp} ULP from the recalibrated value"
            )
            allowed = "exact on the recorded numeric platform" if bound is None else f"{bound} ULP allowed"
            amaxes = [calibrated.amax(name, side) for side in (value, stored_bytes)]
            shown = [None if amax is None else f"amax {amax:.6g}" for amax in amaxes]
            level.add(
                Finding(
                    "mismatched", f"{far}, {allowed}", file=tensor.path.name, tensor=name, offset=0,
                    expected=shown[0], found=shown[1],
                )
            )  # fmt: skip
    if apart:
        largest, name = max(apart)
        level.notes.append(f"{len(apart)} scales differ by at most {largest} ULP, the farthest {name}")
