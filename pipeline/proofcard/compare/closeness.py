"""Two checkpoints after dequantization, linear by linear, and how far each is from their source.

NVFP4 of any dialect, FP8 beside it and plain floats are widened to float32, a few rows at a time; nothing
needs a GPU. Sums of squares are float64.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects.layouts import MODELOPT, block_of, is_fp8, renamed
from proofcard.checkpoint.dialects.naming import aligned
from proofcard.checkpoint.dialects.rules import widths
from proofcard.checkpoint.dialects.view import View, viewed
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.cores import side_by_side
from proofcard.documents.comparison import Closeness, Pair
from proofcard.nvfp4 import e4m3_to_f32
from proofcard.progress import Bar

Array = np.ndarray[Any, Any]
Values = Callable[[slice], Array]
Side = Literal["a", "b"]

_WINDOW = 1 << 21  # weights at a time, of each side
_RANKS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, -1, -2, -3, -4, -5, -6, -7], np.int8)
_FOLDED = ("pre_quant_scale", "svdquant_lora_a", "_svdquant_lora_a")


@dataclass
class _Linear:
    """One side's matrix: its shape, its values row by row, and its codes if it is in NVFP4."""

    shape: tuple[int, int]
    values: Values
    codes: Array | None = None
    block: int = 0


@dataclass
class _Sums:
    """What `Pair` tells, while it is added up."""

    linears: int = 0
    weights: int = 0
    codes: int = 0
    differ: int = 0
    steps: list[int] = field(default_factory=lambda: [0, 0, 0])
    between: float = 0.0
    error_a: float = 0.0
    error_b: float = 0.0
    energy: float = 0.0

    def add(self, other: "_Sums") -> None:
        """All of another to this."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            setattr(
                self,
                name,
                [x + y for x, y in zip(own, value, strict=True)] if name == "steps" else own + value,
            )

    def pair(self, name: str, source: bool) -> Pair:
        """As it is documented."""
        said = dict(vars(self)) | {"steps": tuple(self.steps)}
        return Pair(name=name, **(said if source else said | dict.fromkeys(("error_a", "error_b", "energy"))))


def between(a: dict[str, Tensor], b: dict[str, Tensor], source: Source | None) -> Closeness | None:
    """Everything that both sides have as a matrix; None where neither holds a quantized one.

    Raises:
        Stop: when a tensor cannot be read.
    """
    views, origin, mappings = _views(a, b, source)
    modules = sorted(_matrices(views[0]) & _matrices(views[1]), key=_natural)
    if origin is not None:
        modules = [module for module in modules if f"{module}.weight" in origin.tensors]
    if not any(_quantized(view, module) for view in views for module in modules):
        return None
    each: dict[str, _Sums] = {}
    with Bar("dequantized", len(modules), "matrices") as bar:
        found = side_by_side(lambda module: _one(views, module, origin), modules)
        for module, sums in zip(modules, found, strict=True):
            if sums is not None:
                each[module] = sums
            bar.advance()
    return _document(each, origin is not None, [_folded(side) for side in (a, b)], mappings)


def _document(each: dict[str, _Sums], source: bool, folded: list[bool], mappings: list[str]) -> Closeness:
    total = _Sums()
    kinds: dict[str, _Sums] = {}
    layers: dict[str, _Sums] = {}
    closer = [0, 0, 0]
    for module, sums in each.items():
        total.add(sums)
        kinds.setdefault(_kind(module), _Sums()).add(sums)
        layers.setdefault(_layer(module), _Sums()).add(sums)
        closer[0 if sums.error_a < sums.error_b else 1 if sums.error_b < sums.error_a else 2] += 1
    return Closeness(
        closer=(closer[0], closer[1], closer[2]) if source else None,
        folded=[side for side, is_one in zip(_SIDES, folded, strict=True) if is_one],
        mappings=mappings,
        total=total.pair("all", source),
        kinds=[sums.pair(name, source) for name, sums in kinds.items()],
        layers=[sums.pair(name, source) for name, sums in layers.items()],
        linears=[sums.pair(module, source) for module, sums in each.items()],
    )


_SIDES: tuple[Side, Side] = ("a", "b")


def _views(
    a: dict[str, Tensor], b: dict[str, Tensor], source: Source | None
) -> tuple[tuple[View, View], Source | None, list[str]]:
    """Both sides under one set of names: the source's, or a's without one."""
    if source is None:
        first = View(*renamed(a))
        found, layouts = renamed(b)
        found, cut, mappings = aligned(found, first.tensors, "a")
        stems = {tensor.name.rpartition(".")[0]: name.rpartition(".")[0] for name, tensor in found.items()}
        second = View(found, {stems.get(stem, stem): layout for stem, layout in layouts.items()})
        return (View(cut, first.layouts), second), None, [f"b: {note}" for note in mappings]
    one, origin = viewed(a, source)
    other, again = viewed(b, origin)
    mappings = [
        f"{side}: {note}" for side, view in zip(_SIDES, (one, other), strict=True) for note in view.mappings
    ]
    if again is not origin and origin is not None:  # b's pieces are smaller than a's: cut a once more
        one, again = viewed(a, again)
    return (one, other), again, mappings


def _matrices(view: View) -> set[str]:
    return {
        name.removesuffix(".weight")
        for name, tensor in view.tensors.items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }


def _quantized(view: View, module: str) -> bool:
    return view.tensors[f"{module}.weight"].dtype in ("U8", "F8_E4M3")


def _folded(tensors: Iterable[str]) -> bool:
    return any(name.rpartition(".")[2] in _FOLDED for name in tensors)


def _one(views: tuple[View, View], module: str, source: Source | None) -> _Sums | None:
    """One linear of both sides, if both and the source are understood and of one shape."""
    sides = [_linear(view, module) for view in views]
    origin = _origin(source, module) if source is not None else None
    known = [side for side in (*sides, origin) if side is not None]
    if len(known) < (3 if source is not None else 2) or len({side.shape for side in known}) > 1:
        return None
    one, other = known[0], known[1]
    rows, columns = one.shape
    sums = _Sums(linears=1, weights=rows * columns)
    height = max(1, _WINDOW // max(1, columns))
    for first in range(0, rows, height):
        part = slice(first, first + height)
        x, y = one.values(part), other.values(part)
        with np.errstate(all="ignore"):
            sums.between += _squared(x - y)
            if origin is not None:
                z = origin.values(part)
                sums.error_a, sums.error_b = sums.error_a + _squared(x - z), sums.error_b + _squared(y - z)
                sums.energy += _squared(z)
        if one.codes is not None and other.codes is not None:
            _count(one.codes[part], other.codes[part], sums)
    return sums


def _squared(values: Array) -> float:
    flat = values.astype(np.float64).reshape(-1)
    return float(np.dot(flat, flat))


def _count(a: Array, b: Array, sums: _Sums) -> None:
    sums.codes += 2 * a.size
    at = np.flatnonzero(a.reshape(-1) != b.reshape(-1))
    x, y = a.reshape(-1)[at], b.reshape(-1)[at]
    for low, high in ((x & 15, y & 15), (x >> 4, y >> 4)):
        sums.differ += int(np.count_nonzero(low != high))
        steps = np.abs(_RANKS[low] - _RANKS[high])
        for number in range(3):
            sums.steps[number] += int(np.count_nonzero(steps == number + 1 if number < 2 else steps > 2))


def _linear(view: View, module: str) -> _Linear | None:
    weight, scale = view.tensors[f"{module}.weight"], view.tensors.get(f"{module}.weight_scale")
    if floats.is_float(weight.dtype):
        return _plain(weight)
    if is_fp8(view.tensors, module) and scale is not None:
        codes = weight.bits()
        factor = np.asarray(floats.converted(scale.bits(), scale.dtype, "F32"), np.float32).reshape(-1, 1)
        if len(factor) not in (1, len(codes)):
            return None
        return _Linear(
            _matrix(codes),
            lambda part: e4m3_to_f32(codes[part]) * (factor if len(factor) == 1 else factor[part]),
        )
    second = view.tensors.get(f"{module}.weight_scale_2")
    if weight.dtype != "U8" or scale is None or scale.dtype != "F8_E4M3" or second is None:
        return None
    if second.dtype != "F32" or second.size != 4 or (block := block_of(weight, scale)) is None:
        return None
    return _nvfp4(weight.bits(), scale.bits(), np.float32(second.bits().reshape(-1)[0]), view, module, block)


def _nvfp4(codes: Array, scales: Array, shared: np.float32, view: View, module: str, block: int) -> _Linear:
    layout = view.layouts.get(module, MODELOPT)

    def values(part: slice) -> Array:
        from proofcard.checkpoint.dialects.loops import unpack

        return unpack(codes[part], widths(scales[part], shared, layout), block)

    return _Linear((codes.shape[0], 2 * codes.shape[1]), values, codes, block)


def _plain(weight: Tensor) -> _Linear:
    bits = weight.bits()
    return _Linear(_matrix(bits), lambda part: _wide(bits[part], weight.dtype))


def _origin(source: Source, module: str) -> _Linear:
    name = f"{module}.weight"
    bits, dtype = source.bits(name), source.dtype(name)
    return _Linear(_matrix(bits), lambda part: _wide(bits[part], dtype))


def _wide(bits: Array, dtype: str) -> Array:
    return np.asarray(floats.converted(bits, dtype, "F32"), np.float32)


def _matrix(bits: Array) -> tuple[int, int]:
    rows, columns = bits.shape
    return rows, columns


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]{1,18})", name)]


def _kind(module: str) -> str:
    return re.sub(r"(?<=\.)[0-9]+(?=\.|$)", "#", module)


def _layer(module: str) -> str:
    found = re.match(r"(.*?\.[0-9]+)(\.|$)", module)
    return found.group(1) if found else "outside of layers"
