"""Estimates how long a rebuild takes: the recorded run's time, and the time of the matrix products here."""

import time
from math import prod

from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig

_SIZE = 1024  # of the square matrices that are multiplied
_SECONDS = 0.2
_OUTSIDE = ("embed", "lm_head")


def duration(config: QuantizeConfig, source: Source, recorded: float | None) -> str:
    """One sentence. `recorded` are the seconds that an MLflow run took, wherever it ran."""
    flop = _flop(config, source)
    rate = _rate(config.hardware.device)
    here = f"matrix products alone take {_time(flop / rate)} here at {rate / 1e12:.2g} TFLOP/s"
    return f"time: {here}" + (f"; the recorded run took {_time(recorded)}" if recorded is not None else "")


def _flop(config: QuantizeConfig, source: Source) -> float:
    """Two for each weight of a product and position, every sample at its full length; attention left out."""
    config_json = source.config
    experts = next(
        (
            int(config_json[k])
            for k in ("num_local_experts", "num_experts", "n_routed_experts")
            if config_json.get(k)
        ),
        0,
    )
    chosen = int(config_json.get("num_experts_per_tok") or 1)
    inside = others = 0
    for name in source.weights():
        size = prod(source.tensors[name].shape)
        if len(source.tensors[name].shape) < 2 or any(word in name for word in _OUTSIDE):
            continue
        if ".experts." in name:
            inside += size
        else:
            others += size
    share = min(1.0, chosen / experts) if experts else 1.0
    forced = (
        2 / 3 if config.coverage.name == "all_experts" else 0.0
    )  # an expert's last product decides nothing
    samples = sum(dataset.samples for dataset in config.calibration.datasets.values())
    return 2.0 * samples * config.calibration.sequence_length * (others + inside * (share + forced))


def _rate(device: str) -> float:
    """FLOP/s of BF16 products on the device, measured for a moment."""
    import torch

    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    a = torch.ones(_SIZE, _SIZE, dtype=torch.bfloat16, device=where)
    (a @ a).sum().item()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        (a @ a)[0, 0].item()
        done += 1
    return done * 2.0 * _SIZE**3 / (time.perf_counter() - began)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
