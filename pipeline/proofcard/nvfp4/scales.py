"""The float32 scales that go with packed weights, each computed from one amax.

All three are one IEEE float32 division, done by numpy, so every machine gets the same bits. (A GPU
may divide a tensor by a constant through the constant's reciprocal and be one ULP off; ModelOpt's
CPU path divides as here.)
"""

import numpy as np

from proofcard.nvfp4.bits import E4M3_MAX

E2M1_MAX = 6.0


def weight_scale_2(amax: float | np.floating) -> np.float32:
    """Second-level weight scale: float32(amax) / (6 · 448).

    `amax` is max |W| of the tensor, or of gate and up together where an engine fuses them.
    ModelOpt: `NVFP4QTensor.get_weights_scaling_factor_2_from_quantizer`.
    """
    return _scale("weight_scale_2", amax, E2M1_MAX * E4M3_MAX)


def input_scale(amax: float | np.floating) -> np.float32:
    """Activation scale of an NVFP4 linear: float32(amax) / (6 · 448).

    ModelOpt: `NVFP4QTensor.get_activation_scaling_factor`; its quantizer is a dynamic block quantizer,
    so amax arrives unclamped and zero stops the export there too.
    """
    return _scale("input_scale", amax, E2M1_MAX * E4M3_MAX)


def kv_scale(amax: float | np.floating) -> np.float32:
    """k_scale or v_scale of an FP8 KV cache: float32(amax) / 448, neither clamped nor raised to 1.

    With `fp8_affine` the rule is the same; its amax is that of x − bias. ModelOpt:
    `postprocess_state_dict` (the floor of 1.0 in `get_kv_cache_scaling_factor` belongs to another export).
    """
    return _scale("kv_scale", amax, E4M3_MAX)


def shared_amaxes(amax: dict[str, float], groups: list[tuple[str, ...]]) -> dict[str, float]:
    """Give every member of a group the group's largest amax, such as gate and up, which engines fuse."""
    shared = dict(amax)
    for names in groups:
        largest = max(shared[name] for name in names)
        shared |= dict.fromkeys(names, largest)
    return shared


def _scale(name: str, amax: float | np.floating, bound: float) -> np.float32:
    value = np.float32(amax)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: amax is {value}; it must be finite and positive")
    scale = np.float32(value / np.float32(bound))
    if scale == 0:
        raise ValueError(f"{name}: amax {value} is so small that amax/{bound:g} is zero in float32")
    return scale
