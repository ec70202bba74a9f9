"""The names of a quantized checkpoint: which tensors make a quantized linear, and which are missing.

No model is known here by name. What should be there follows from the source's names when it is given, and
otherwise from config.json's counts and from what other layers and experts have (`regularity`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proofcard.checkpoint.dialects.layouts import is_fp8, is_packed
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.ties import Ties
from proofcard.verify.report import Finding

SCALES = {"weight_scale": "F8_E4M3", "weight_scale_2": "F32", "input_scale": "F32"}
CACHE = ("k_scale", "v_scale", "k_bias", "v_bias")  # of the KV cache, beside the k or v projection
# Linears with one input, which engines fuse: ModelOpt gives them one amax, so one weight_scale_2.
FUSED = (("w1", "w3"), ("gate_proj", "up_proj"), ("q_proj", "k_proj", "v_proj"))


def natural(name: str) -> list[Any]:
    """Sort key in which layer 2 comes before layer 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]{1,18})", name))]


def kind(name: str) -> str:
    """A tensor's name with `#` for the numbers of layers and experts."""
    return re.sub(r"(?<=\.)[0-9]+(?=\.|$)", "#", name)


def of_config(config: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    """The first of these counts that config.json gives, at its top or for its text model."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in keys:
            if isinstance(part.get(key), int) and not isinstance(part[key], bool):
                return int(part[key])
    return None


@dataclass
class Inventory:
    """Tensors by role. `model` holds the model's own: its weights and biases, quantized or not."""

    tensors: dict[str, Tensor]
    quantized: list[str] = field(default_factory=list)
    eight: bool = True  # whether linears may be in FP8
    fp8: list[str] = field(default_factory=list)  # those that are: a scale for the tensor or for each row
    model: set[str] = field(default_factory=set)
    cache: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Sort the names into roles."""
        split = {name: name.rpartition(".") for name in self.tensors}
        quantized = {stem for stem, _, leaf in split.values() if leaf in SCALES}
        quantized |= {
            stem for name, (stem, _, leaf) in split.items() if leaf == "weight" and self._packed(name)
        }
        self.fp8 = sorted(
            (stem for stem in quantized if self.eight and is_fp8(self.tensors, stem)), key=natural
        )
        self.quantized = sorted(quantized.difference(self.fp8), key=natural)
        self.cache = sorted((n for n, (_, _, leaf) in split.items() if leaf in CACHE), key=natural)
        scales = {f"{stem}.{leaf}" for stem in quantized for leaf in SCALES}
        scales |= {f"{stem}.pre_quant_scale" for stem in quantized}
        self.model = self.tensors.keys() - scales - set(self.cache)

    def _packed(self, name: str) -> bool:
        return is_packed(self.tensors[name])

    def modules(self) -> set[str]:
        """Every module that has a tensor, and every module around it."""
        modules: set[str] = set()
        for name in self.model:
            stem = name.rpartition(".")[0]
            while stem and stem not in modules:
                modules.add(stem)
                stem = stem.rpartition(".")[0]
        return modules

    def linears(self) -> list[str]:
        """Modules with an unquantized matrix that is not an embedding, and stacks of experts' matrices."""
        matrices = [
            name.removesuffix(".weight")
            for name in self.model
            if name.endswith(".weight") and len(self.tensors[name].shape) == 2 and not self._packed(name)
            if self.tensors[name].dtype != "F8_E4M3"
            if "embed" not in name.split(".")[-2]
        ]
        stacks = [
            name.removesuffix(".weight")
            for name in self.model
            if ".experts." in name and len(self.tensors[name].shape) == 3
        ]
        return sorted(matrices + stacks, key=natural)


def fused_groups(modules: Iterable[str]) -> list[tuple[str, ...]]:
    """The modules in groups that share weight_scale_2, most of them alone; in natural order."""
    known = {name: siblings for siblings in FUSED for name in siblings}
    groups: dict[tuple[str, object], list[str]] = defaultdict(list)
    for module in sorted(modules, key=natural):
        stem, _, leaf = module.rpartition(".")
        groups[(stem, known.get(leaf, leaf))].append(module)
    return [tuple(group) for group in groups.values()]


def against_source(inventory: Inventory, source: Iterable[str], ties: Ties) -> Iterator[Finding]:
    """Every source weight must be there, quantized or not, and nothing else (ModelOpt #2194)."""
    wanted = set(source)
    for name in sorted(wanted - inventory.model, key=natural):
        if ties.partner(name, inventory.model) is None:
            yield Finding("missing", "the source has this weight, but the checkpoint does not", tensor=name)
    for name in sorted(inventory.model - wanted, key=natural):
        if ties.partner(name, wanted) is None:
            yield Finding("extra", "a tensor that the source does not have", tensor=name)
    yield from _scales_of_nothing(inventory, wanted)


def _scales_of_nothing(inventory: Inventory, wanted: set[str]) -> Iterator[Finding]:
    for module in [*inventory.quantized, *inventory.fp8]:
        for leaf in () if f"{module}.weight" in wanted else SCALES:
            if f"{module}.{leaf}" in inventory.tensors:
                message = "a scale of a weight that the source does not have"
                yield Finding("extra", message, tensor=f"{module}.{leaf}")
