"""Without a source: checks layers and experts against config.json's counts, and layers against each other.

Layers and experts are identified by the numbers in names. Layers of different types in config.json are not
compared; nor are those beyond the counted ones (multi-token prediction).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from proofcard.verify.inventory import Inventory, of_config
from proofcard.verify.report import Finding, Level

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
PREDICTORS = (
    "num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", "num_mtp_layers",
    "mtp_num_layers",
)  # fmt: skip
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")

_KINDS = 4  # a list in config.json with at most this many distinct values gives the layers' types
_BY_LAYER = re.compile("layer|attn|attention|block|mixer|mlp|indexer|pattern")  # names of such lists
_BEYOND = 8  # surplus experts that are listed individually
_KV = ("k_proj", "v_proj", "k_norm", "v_norm")

Names = Mapping[int, set[str]]


def check(inventory: Inventory, config: Mapping[str, Any], level: Level) -> None:
    """Add what is missing or extra, what may be intentional, and what only a source could show."""
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
    findings: list[Finding] = []
    for container in sorted(layers):
        count = of_config(config, LAYERS) if container == main else None
        spare = of_config(config, PREDICTORS) or 0
        findings += _layers(container, set(layers[container]), count, spare)
        counted = {n: names for n, names in layers[container].items() if count is None or n < count}
        if beyond := len(layers[container]) - len(counted):
            level.notes.append(
                f"{beyond} layers beyond the counted ones: only a source shows whether they are complete"
            )
        kinds = _kinds(config, count) if container == main else {}
        by_kind: dict[Any, dict[int, set[str]]] = defaultdict(dict)
        for number, names in counted.items():
            by_kind[kinds.get(number)][number] = names
        for group in by_kind.values():
            findings += _Fellows(container, group, config, count).judge(level)
    findings += _experts(experts, main, config)
    level.group(findings)


def _place(name: str) -> tuple[str, int, str, int | None] | None:
    """Container, layer, the rest of the name with the expert's number as `#`, and that number."""
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
    known = f"config.json declares {count} layers" if count is not None else "later layers are there"
    end = max(seen) + 1 if count is None else min(count, max(seen) + 1)
    absent = len(range(end)) - sum(layer < end for layer in seen)
    if absent > len(seen):
        message = f"{known}, and {absent} below {end} have no tensor"
        yield Finding("missing", message, tensor=container)
    else:
        for layer in sorted(set(range(end)) - seen):
            yield Finding("missing", f"{known}, and this one has no tensor", tensor=f"{container}.{layer}")
    if count is not None and count > max(seen) + 1:
        which = f"{container}.{max(seen) + 1}"
        more = f"{count - max(seen) - 1} from this one on have" if count > max(seen) + 2 else "this one has"
        yield Finding("missing", f"{known}, and {more} no tensor", tensor=which)
    for layer in sorted(seen):
        if count is not None and layer >= count + spare:
            yield Finding("extra", known, tensor=f"{container}.{layer}")


def _kinds(config: Mapping[str, Any], count: int | None) -> dict[int, tuple[Any, ...]]:
    """Each layer's types, from every list in config.json with one entry per layer."""
    inner = config.get("text_config")
    lists = [
        value
        for part in (config, inner if isinstance(inner, dict) else {})
        for key, value in sorted(part.items())
        if isinstance(value, list) and len(value) == count and _BY_LAYER.search(key)
        if all(isinstance(entry, (str, int)) for entry in value) and len(set(value)) <= _KINDS
    ]
    return {layer: tuple(value[layer] for value in lists) for layer in range(count or 0)} if lists else {}


class _Fellows:
    """Layers of one kind. A layer that has less than others, and nothing that they do not have, is considered
    incomplete. Dense and sparse layers, or two kinds of attention, each have something the others do not."""

    def __init__(self, container: str, layers: Names, config: Mapping[str, Any], count: int | None) -> None:
        self._container, self._all, self._config = container, layers, config
        shared = of_config(config, ("num_kv_shared_layers",)) or 0
        self._sharing = count - shared if count is not None and shared > 0 else None

    def judge(self, level: Level) -> Iterator[Finding]:
        """Findings; what may be intentional goes to the notes, what only a source can show to `unchecked`."""
        yield from self._weightless()
        parts: dict[str, dict[int, set[str]]] = defaultdict(dict)
        for layer, names in self._all.items():
            parts[""][layer] = {name.split(".")[0] for name in names}
            for name in names:
                parts[name.split(".")[0]].setdefault(layer, set()).add(name)
        for part in sorted(parts):
            sets = {layer: frozenset(names) for layer, names in parts[part].items()}
            often = Counter(sets.values())
            optional = self._optional(sets.values(), part)
            if optional:
                has = sorted(n for n, names in sets.items() if any(_below(name, optional) for name in names))
                level.notes.append(f"{', '.join(sorted(optional))} is in {len(has)} of {len(sets)} layers")
            unsure: set[int] = set()
            for layer, have in sorted(sets.items()):
                fuller = [other for other in often if have < other and often[other] >= often[have]]
                leaner = [other for other in often if have > other and often[other] > often[have]]
                lacking = sorted(max(fuller, key=len) - have) if fuller else []
                excess = sorted(have - max(leaner, key=len)) if leaner else []
                if self._shares_kv(layer, lacking or excess, level, unsure):
                    continue
                for chosen, kind, why in (
                    (lacking, "missing", "other layers have it"),
                    (excess, "extra", "other layers do not have it"),
                ):
                    for name in chosen:
                        if not _below(name, optional):
                            yield Finding(kind, why, tensor=f"{self._container}.{layer}.{name}")  # type: ignore[arg-type]
            if unsure:
                level.unchecked.append(
                    f"layers {', '.join(map(str, sorted(unsure)[:8]))} of {self._container} differ from "
                    "others in having k_proj and v_proj: they share another layer's keys and values, or are "
                    "incomplete; source=DIR shows which"
                )

    def _weightless(self) -> Iterator[Finding]:
        """Modules that have tensors but no weight, although the same module in other layers has one."""
        with_weight = {name for names in self._all.values() for name in names if name.endswith(".weight")}
        for layer, names in sorted(self._all.items()):
            for module in sorted({name.rpartition(".")[0] for name in names}):
                weight = f"{module}.weight"
                if weight in with_weight - names:
                    yield Finding(
                        "missing", "other layers have it", tensor=f"{self._container}.{layer}.{weight}"
                    )

    def _optional(self, sets: Iterable[frozenset[str]], part: str) -> set[str]:
        """Composite modules such as an indexer, which a layer has either completely or not at all."""
        inside: dict[str, set[frozenset[str]]] = defaultdict(set)
        known = list(sets)
        for prefix in {".".join(name.split(".")[:2]) for names in known for name in names}:
            if prefix.rpartition(".")[2].endswith("experts"):
                continue
            inside[prefix] = {frozenset(n for n in names if n.startswith(f"{prefix}.")) for names in known}
        return {
            prefix
            for prefix, contents in inside.items()
            if part and len(contents) == 2 and frozenset() in contents
            if len({name.split(".")[2] for name in max(contents, key=len)}) > 1
            if all(name.count(".") > 2 for name in max(contents, key=len))
        }

    def _shares_kv(self, layer: int, names: list[str], level: Level, unsure: set[int]) -> bool:
        """Whether the difference is only a projection of keys and values with its norm."""
        modules = {name.split(".")[1] for name in names if name.count(".") > 1}
        if not names or not modules <= set(_KV) or "v_proj" not in modules:
            return False
        if self._sharing is not None:
            if layer >= self._sharing:
                note = f"layers from {self._sharing} share keys and values, as config.json says"
                level.notes += [note] if note not in level.notes else []
            return layer >= self._sharing
        if self._config.get("attention_k_eq_v") is True and modules == {"v_proj"}:
            return True
        unsure.add(layer)
        return True


def _below(name: str, prefixes: set[str]) -> bool:
    return ".".join(name.split(".")[:2]) in prefixes


def _experts(
    experts: Mapping[tuple[str, int, str], set[int]], main: str, config: Mapping[str, Any]
) -> Iterator[Finding]:
    # Per container: another tower may have experts that config.json's count does not cover.
    largest: Counter[str] = Counter()
    for (container, _, _), seen in experts.items():
        largest[container] = max(largest[container], *(number + 1 for number in seen))
    declared = of_config(config, EXPERTS)
    for (container, layer, rest), seen in sorted(experts.items()):
        count = declared if declared is not None and container == main else largest[container]
        listed = set(range(min(count, max(len(seen), 0) + _BEYOND)))
        for expert in sorted(listed ^ seen):
            name = f"{container}.{layer}.{rest.replace('#', str(expert), 1)}"
            if expert not in seen:
                yield Finding(
                    "missing",
                    f"layer {layer} has {count} experts, but expert {expert} does not have it",
                    tensor=name,
                )
            elif expert >= count:
                yield Finding("extra", f"layer {layer} has {count} experts, this one is extra", tensor=name)
