"""Scales that no calibration gives: bounds by rule, since their values follow from no file.

| scale | amax | at least | at most | because |
|---|---|---|---|---|
| input_scale | amax = 2688 · scale | 2⁻²⁴ | 2²⁴ | FP16's least step; no known activations pass 2²⁰ |
| weight_scale_2 | amax = 2688 · scale | 2⁻²⁴ | 2¹⁶ | FP16's range, which published weights keep to |
| k_scale, v_scale | amax = 448 · scale | 2⁻²⁴ | 2²⁰ | the same for keys and values |
| k_bias, v_bias | a mean of keys or values | | 2 · amax | a mean lies among values within amax of it |
| block scales | the largest of a fused group | 112 | 448 | max gives 448; MSE and 4/6 not a quarter of it |
| input_scale | linears with one input | equal | equal | they see one tensor: one amax |

Where nearly all groups of one kind reach 448 exactly, as `max` calibration makes it, the rest must reach 256:
a search that keeps most of them may take less for a few.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import bf16_to_f32, e4m3_to_f32
from proofcard.verify.inventory import Inventory, kind
from proofcard.verify.report import Finding

BOUNDS = {
    "input_scale": (2688.0, 2.0**-24, 2.0**24),
    "weight_scale_2": (2688.0, 2.0**-24, 2.0**16),
    "k_scale": (448.0, 2.0**-24, 2.0**20),
    "v_scale": (448.0, 2.0**-24, 2.0**20),
}
"""By the last part of a name: what the scale is multiplied with, and between which values the amax lies."""

_DIVISORS = {"weight_global_scale": "weight_scale_2", "input_global_scale": "input_scale"}
"""compressed-tensors' names, whose scales are 2688 / amax, and those whose bounds they have."""

LEAST_BLOCK_SCALE = 112.0
FULL = 448.0
_BIAS = 2.0  # of the amax
_NEARLY_ALL = 0.75
_SEARCHED = 4 / 7  # of 448: a search keeps 4 codes of 7 for the largest weight, or more
_ENOUGH = 4  # groups of one kind from which a pattern counts


def floats(tensor: Tensor, raw: np.ndarray) -> np.ndarray:
    """An F32 or BF16 tensor's values as float32."""
    if tensor.dtype == "BF16":
        return bf16_to_f32(np.frombuffer(raw.tobytes(), "<u2"))
    return np.frombuffer(raw.tobytes(), "<f4")


def scale(tensor: Tensor, values: np.ndarray) -> Iterator[Finding]:
    """A scale that is finite and positive, against its bounds."""
    leaf = tensor.name.rpartition(".")[2]
    if _DIVISORS.get(leaf, leaf) not in BOUNDS:
        return
    factor, least, most = BOUNDS[_DIVISORS.get(leaf, leaf)]
    with np.errstate(divide="ignore"):
        amax = factor / values.astype(np.float64) if leaf in _DIVISORS else values.astype(np.float64) * factor
    wrong = np.isfinite(amax) & (amax > 0) & ((amax < least) | (amax > most))
    if wrong.any():
        value, implied = values[int(np.argmax(wrong))], amax[int(np.argmax(wrong))]
        message = (
            f"it is {value}, of amax {implied:.3g}: calibration never gives less than {least:.3g} or "
            f"more than {most:.3g}"
        )
        yield Finding("mismatched", message, tensor=tensor.name, found=str(value))


def biases(inventory: Inventory) -> Iterator[Finding]:
    """A bias of the KV cache against the scale beside it."""
    for name in inventory.cache:
        if not name.endswith("_bias") or not inventory.tensors[name].size:
            continue
        bias, beside = inventory.tensors[name], inventory.tensors.get(f"{name.removesuffix('bias')}scale")
        if beside is None:
            yield Finding("extra", "a bias of the KV cache without its scale", tensor=name)
            continue
        if {bias.dtype, beside.dtype} - {"F32", "BF16"}:
            continue  # named elsewhere
        amax = float(np.max(floats(beside, beside.raw()))) * 448
        largest = float(np.max(np.abs(floats(bias, bias.raw()))))
        if np.isfinite([amax, largest]).all() and largest > _BIAS * amax:
            message = f"it reaches {largest:.6g}, but its scale covers only ±{amax:.6g} around it"
            yield Finding("mismatched", message, tensor=name, found=f"{largest:.6g}")


class BlockScales:
    """The largest block scale of every fused group, as they are met."""

    def __init__(self, full: float = FULL) -> None:
        """`full`: what the largest block of a tensor has under `max`, before E4M3 rounds it."""
        self._largest: dict[str, float] = {}
        self._full = full

    def add(self, module: str, codes: np.ndarray) -> None:
        """Codes of one linear, all of them finite and not negative."""
        self._largest[module] = float(e4m3_to_f32(codes.max(keepdims=True)).max()) if codes.size else 0.0

    def judge(self, groups: Iterable[tuple[str, ...]]) -> Iterator[Finding]:
        """Each group's largest, by the bound and by what nearly all groups of its kind do."""
        kinds: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for group in groups:
            known = [self._largest[module] for module in group if module in self._largest]
            if len(known) == len(group) and max(known) > 0:
                kinds[kind(group[0])].append((group[0], max(known)))
        for members in kinds.values():
            full = sum(largest == self._full for _, largest in members)
            strict = len(members) >= _ENOUGH and full >= _NEARLY_ALL * len(members)
            least = LEAST_BLOCK_SCALE * self._full / FULL
            for module, largest in members:
                if largest < (self._full * _SEARCHED if strict else least):
                    rule = (
                        f"{full} of {len(members)} similar ones reach 448"
                        if strict
                        else f"{least:.3g} is the least"
                    )
                    message = (
                        f"its largest block scale is {largest:g} ({rule}): weight_scale_2 is too large for it"
                    )
                    yield Finding(
                        "mismatched", message, tensor=f"{module}.weight_scale", found=f"{largest:g}"
                    )
