"""The names of a quantized checkpoint: which tensors make a quantized linear, and which are missing.

No model is known here by name. Layers and experts are found by the numbers in the names; what should be
there follows from config.json's counts, from the source's names when it is at hand, and otherwise from
what the other layers and experts have.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proofcard.checkpoint.tensors import Tensor
from proofcard.verify.report import Finding

SCALES = {"weight_scale": "F8_E4M3", "weight_scale_2": "F32", "input_scale": "F32"}
CACHE = ("k_scale", "v_scale", "k_bias", "v_bias")  # of the KV cache, beside the k or v projection
# Linears with one input, which engines fuse: ModelOpt gives them one amax, so one weight_scale_2.
FUSED = (("w1", "w3"), ("gate_proj", "up_proj"), ("q_proj", "k_proj", "v_proj"))
# With tie_word_embeddings either may be absent: the other stands for it.
TIED = {"lm_head": "embed_tokens", "embed_tokens": "lm_head"}

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_PREDICTORS = ("num_nextn_predict_layers", "num_mtp_modules")  # layers beyond the counted ones
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def natural(name: str) -> list[Any]:
    """Sort key in which layer 2 comes before layer 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]{1,18})", name))]


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
    model: set[str] = field(default_factory=set)
    cache: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Sort the names into roles."""
        split = {name: name.rpartition(".") for name in self.tensors}
        quantized = {stem for stem, _, leaf in split.values() if leaf in SCALES}
        quantized |= {
            stem for name, (stem, _, leaf) in split.items() if leaf == "weight" and self._packed(name)
        }
        self.quantized = sorted(quantized, key=natural)
        self.cache = sorted((n for n, (_, _, leaf) in split.items() if leaf in CACHE), key=natural)
        scales = {f"{stem}.{leaf}" for stem in quantized for leaf in SCALES}
        self.model = self.tensors.keys() - scales - set(self.cache)

    def _packed(self, name: str) -> bool:
        return self.tensors[name].dtype == "U8" and len(self.tensors[name].shape) == 2

    def modules(self) -> set[str]:
        """Every module that has a tensor, and every module around it."""
        found: set[str] = set()
        for name in self.model:
            stem = name.rpartition(".")[0]
            while stem and stem not in found:
                found.add(stem)
                stem = stem.rpartition(".")[0]
        return found

    def linears(self) -> list[str]:
        """Modules with an unquantized matrix that is no embedding."""
        return sorted(
            name.removesuffix(".weight")
            for name in self.model
            if name.endswith(".weight") and len(self.tensors[name].shape) == 2 and not self._packed(name)
            if "embed" not in name.split(".")[-2]
        )


def tied_partner(name: str) -> str | None:
    """`embed_tokens` for `lm_head` and the reverse: the last module's name that would stand for this one."""
    parts = name.split(".")
    return TIED.get(parts[-2]) if len(parts) > 1 and parts[-1] == "weight" else None


def fused_groups(modules: Iterable[str]) -> list[tuple[str, ...]]:
    """The modules in groups that share weight_scale_2, most of them alone; in natural order."""
    known = {name: siblings for siblings in FUSED for name in siblings}
    groups: dict[tuple[str, object], list[str]] = defaultdict(list)
    for module in sorted(modules, key=natural):
        stem, _, leaf = module.rpartition(".")
        groups[(stem, known.get(leaf, leaf))].append(module)
    return [tuple(group) for group in groups.values()]


def against_source(inventory: Inventory, source: Iterable[str], tied: bool) -> Iterator[Finding]:
    """Every source weight must be there, quantized or not, and nothing else (ModelOpt #2194)."""
    wanted = set(source)
    for names, others, kind in (
        (wanted - inventory.model, inventory.model, "missing"),
        (inventory.model - wanted, wanted, "extra"),
    ):
        for name in sorted(names, key=natural):
            partner = tied_partner(name) if tied else None
            if partner is not None and any(other.split(".")[-2:-1] == [partner] for other in others):
                continue
            if kind == "missing":
                yield Finding("missing", "a weight of the source that is not in the checkpoint", tensor=name)
            else:
                yield Finding("extra", "a tensor that the source does not have", tensor=name)
    yield from _scales_of_nothing(inventory, wanted)


def _scales_of_nothing(inventory: Inventory, wanted: set[str]) -> Iterator[Finding]:
    for module in inventory.quantized:
        for leaf in () if f"{module}.weight" in wanted else SCALES:
            if f"{module}.{leaf}" in inventory.tensors:
                message = "a scale of a weight that the source does not have"
                yield Finding("extra", message, tensor=f"{module}.{leaf}")


def by_regularity(inventory: Inventory, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Layers and experts by config.json's counts, and every layer like its fellows."""
    layers: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    experts: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for name in inventory.model:
        if (place := _place(name)) is None:
            continue
        container, layer, rest, expert = place
        layers[container][layer].add(rest)
        if expert is not None:
            experts[(container, layer, rest)].add(expert)
    if not layers:
        return
    main = max(sorted(layers), key=lambda container: sum(map(len, layers[container].values())))
    for container in sorted(layers):
        count = of_config(config, _LAYERS) if container == main else None
        spare = of_config(config, _PREDICTORS) or 0
        yield from _layers(container, set(layers[container]), count, spare)
        yield from _fellows(container, layers[container])
    # Per container: another tower may have experts of its own, which config.json's count is not about.
    largest: Counter[str] = Counter()
    for (container, _, _), seen in experts.items():
        largest[container] = max(largest[container], *(number + 1 for number in seen))
    said = of_config(config, _EXPERTS)
    for (container, layer, rest), seen in sorted(experts.items()):
        wanted = set(range(said if said is not None and container == main else largest[container]))
        for expert in sorted(wanted ^ seen):
            name = f"{container}.{layer}.{rest.replace('#', str(expert), 1)}"
            if expert in wanted:
                yield Finding(
                    "missing", f"layer {layer} has {len(wanted)} experts, {expert} lacks it", tensor=name
                )
            else:
                yield Finding(
                    "extra", f"layer {layer} has {len(wanted)} experts, this is one more", tensor=name
                )


def _place(name: str) -> tuple[str, int, str, int | None] | None:
    """Container, layer, rest of the name with the expert's number as `#`, that number."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if re.fullmatch(r"[0-9]{1,18}", part)]
    if not numbers:
        return None
    first, rest, expert = numbers[0], parts[numbers[0] + 1 :], None
    for i in range(1, len(rest)):
        if rest[i - 1] == "experts" and re.fullmatch(r"[0-9]{1,18}", rest[i]):
            expert, rest[i] = int(rest[i]), "#"
            break
    return ".".join(parts[:first]), int(parts[first]), ".".join(rest), expert


def _layers(container: str, seen: set[int], count: int | None, spare: int) -> Iterator[Finding]:
    known = f"config.json says {count} layers" if count is not None else "later layers are there"
    for layer in range(count if count is not None else max(seen) + 1):
        if layer not in seen:
            yield Finding("missing", f"{known}, and this one has no tensor", tensor=f"{container}.{layer}")
    for layer in sorted(seen):
        if count is not None and layer >= count + spare:
            yield Finding("extra", known, tensor=f"{container}.{layer}")


def _fellows(container: str, layers: Mapping[int, set[str]]) -> Iterator[Finding]:
    """A layer that lacks some of what others have, and has nothing that they lack, is taken for incomplete.

    Dense and sparse layers, or two kinds of attention, each have something of their own and pass.
    """
    parts: dict[str, dict[int, set[str]]] = defaultdict(dict)
    for layer, names in layers.items():
        parts[""][layer] = {name.split(".")[0] for name in names}
        for name in names:
            parts[name.split(".")[0]].setdefault(layer, set()).add(name)
    for part in sorted(parts):
        sets = {layer: frozenset(names) for layer, names in parts[part].items()}
        often = Counter(sets.values())
        for layer, have in sorted(sets.items()):
            fuller = [other for other in often if have < other and often[other] >= often[have]]
            leaner = [other for other in often if have > other and often[other] > often[have]]
            for name in sorted(max(fuller, key=len) - have) if fuller else []:
                yield Finding("missing", "other layers have it", tensor=f"{container}.{layer}.{name}")
            for name in sorted(have - max(leaner, key=len)) if leaner else []:
                yield Finding("extra", "other layers do not have it", tensor=f"{container}.{layer}.{name}")
