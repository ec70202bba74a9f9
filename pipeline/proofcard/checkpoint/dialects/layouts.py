"""The tensors that make one quantized linear, in each layout, under one set of names.

Everything after this module sees ModelOpt's names: `weight`, `weight_scale`, `weight_scale_2`, `input_scale`.

| layout | codes | block scales | second-level scale | input scale |
|---|---|---|---|---|
| ModelOpt | weight U8 | weight_scale E4M3 | weight_scale_2 F32 [], a factor | input_scale F32 [] |
| compressed-tensors | weight_packed U8 | weight_scale E4M3 | weight_global_scale F32 [1], a divisor | \
input_global_scale F32 [1], a divisor |

llm-compressor and auto-round both write the second. Two codes are in a byte, the even column in the low half,
in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proofcard.checkpoint.tensors import Tensor

LEAVES = ("weight", "weight_scale", "weight_scale_2", "input_scale")


@dataclass(frozen=True)
class Layout:
    """One way to store a quantized linear. `leaves` are in the order of `LEAVES`."""

    name: str
    leaves: tuple[str, str, str, str]
    divides: bool  # whether the second-level scales are divisors, 2688 / amax, and not amax / 2688

    def canonical(self) -> dict[str, str]:
        """ModelOpt's name for each of this layout's."""
        return dict(zip(self.leaves, LEAVES, strict=True))


MODELOPT = Layout("ModelOpt", LEAVES, divides=False)
COMPRESSED = Layout(
    "compressed-tensors",
    ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"),
    divides=True,
)


def renamed(
    tensors: Mapping[str, Tensor], compressed: bool = True
) -> tuple[dict[str, Tensor], dict[str, Layout]]:
    """Every tensor under ModelOpt's names, and the layout of each module that has packed weights.

    A tensor keeps the name that its file has in `Tensor.name`. With `compressed`, a module is of compressed-
    tensors' layout where it has `weight_packed` or `weight_global_scale` and no `weight`; anything else keeps
    its names.
    """
    own = COMPRESSED.canonical()
    marks = (COMPRESSED.leaves[0], COMPRESSED.leaves[2])
    stems = {name.rpartition(".")[0] for name in tensors if name.rpartition(".")[2] in marks}
    stems = {stem for stem in stems if compressed and f"{stem}.weight" not in tensors}
    layouts = dict.fromkeys(stems, COMPRESSED)
    canonical: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if stem in stems and leaf in own:
            canonical[f"{stem}.{own[leaf]}"] = tensor
        else:
            canonical[name] = tensor
            if leaf == "weight" and is_packed(tensor):
                layouts[stem] = MODELOPT
    return canonical, layouts


def is_packed(tensor: Tensor) -> bool:
    """Whether a weight holds two 4-bit codes in each byte, by its dtype and shape."""
    return tensor.dtype == "U8" and len(tensor.shape) == 2


def block_of(weight: Tensor, scale: Tensor) -> int | None:
    """How many weights share a block scale, by the shapes: 16 or 32; None where neither fits."""
    if len(weight.shape) != 2 or len(scale.shape) != 2 or weight.shape[0] != scale.shape[0]:
        return None
    columns = 2 * weight.shape[1]
    return next((block for block in (16, 32) if scale.shape[1] and scale.shape[1] * block == columns), None)


def is_fp8(tensors: Mapping[str, Tensor], module: str) -> bool:
    """Whether a module is a linear in FP8 with a scale for the tensor or for each row, not for blocks."""
    weight, scale = tensors.get(f"{module}.weight"), tensors.get(f"{module}.weight_scale")
    return (
        weight is not None and weight.dtype == "F8_E4M3" and len(weight.shape) == 2
        and scale is not None and scale.dtype in ("F32", "BF16")
        and f"{module}.weight_scale_2" not in tensors
    )  # fmt: skip
