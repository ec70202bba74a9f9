"""A checkpoint's names and its source's: the same weights under other names, or in other pieces.

| here | there |
|---|---|
| w1, w3, w2 of an expert | gate_proj, up_proj, down_proj |
| block_sparse_moe | mlp |
| model. | model.language_model., language_model.model. |
| experts.gate_up_proj [experts, 2 · width, hidden], experts.down_proj | one tensor for each expert |

A name is taken for another only where the source has that other name, and the checkpoint does not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from proofcard.checkpoint.tensors import BITS, Tensor

_LEAVES = (("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj"))
_HOMES = ("block_sparse_moe", "mlp")
_PREFIXES = ("model.language_model.", "language_model.model.", "model.")
_FUSED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
_PLAIN = ("BF16", "F16", "F32")


def spellings(module: str) -> Iterator[str]:
    """The other names that a module may have elsewhere."""
    for prefixed in _prefixed(module):
        for housed in _housed(prefixed):
            for name in _leaved(housed):
                if name != module:
                    yield name


def _prefixed(name: str) -> list[str]:
    own = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
    if own is None:
        return [name]
    return [name] + [other + name.removeprefix(own) for other in _PREFIXES if other != own]


def _housed(name: str) -> list[str]:
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part in _HOMES), None)
    if at is None:
        return [name]
    return [".".join([*parts[:at], home, *parts[at + 1 :]]) for home in (parts[at], *_HOMES)]


def _leaved(name: str) -> list[str]:
    stem, dot, leaf = name.rpartition(".")
    if ".experts." not in name:
        return [name]
    for pair in _LEAVES:
        if leaf in pair:
            return [name, f"{stem}{dot}{pair[pair[0] == leaf]}"]
    return [name]


def aligned(
    tensors: dict[str, Tensor], others: dict[str, Tensor], called: str = "the source"
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Both with the others' names and in the smaller pieces, and a sentence for each kind of difference.

    `tensors` have ModelOpt's names for what makes a quantized linear. A piece of a tensor keeps the tensor's
    name in `Tensor.name`. `called`: how the sentences call the others.
    """
    notes: list[str] = []
    if _singly(tensors) and (pieces := dict(_pieces(others, tensors))):
        others = _replaced(others, pieces)
        notes.append(_split(called, pieces))
    elif not _singly(tensors) and (pieces := dict(_pieces(tensors, others))):
        tensors = _replaced(tensors, pieces)
        notes.append(_split("the checkpoint", pieces))
    own = {_module(name) for name in tensors}
    known = {_module(name) for name in others}
    moved: dict[str, str] = {}
    taken = set(own & known)
    for module in sorted(own - known):
        target = next((s for s in spellings(module) if s in known and s not in taken and s not in own), None)
        if target is not None:
            moved[module] = target
            taken.add(target)
    for module in sorted(own - known - moved.keys()):  # a home of KV scales has no weight in the source
        homes = {moved[m].removesuffix(m.removeprefix(module)) for m in moved if m.startswith(f"{module}.")}
        if len(homes) == 1:
            moved[module] = homes.pop()
    if not moved:
        return tensors, others, notes
    renamed = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        renamed[f"{moved[module]}.{leaf}" if module in moved else name] = tensor
    kinds = Counter((_kind(module), _kind(target)) for module, target in moved.items())
    notes += [f"{here} is {called}'s {there} ({count})" for (here, there), count in sorted(kinds.items())]
    return (renamed if len(renamed) == len(tensors) else tensors), others, notes


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _kind(name: str) -> str:
    return re.sub(r"(?<=\.)[0-9]+(?=\.|$)", "#", name)


def _singly(names: Iterable[str]) -> set[str]:
    """The homes of experts that have a tensor each."""
    split = (name.partition(".experts.") for name in names)
    return {home for home, separator, rest in split if separator and rest.partition(".")[0].isdigit()}


def _pieces(
    tensors: dict[str, Tensor], others: dict[str, Tensor]
) -> Iterator[tuple[str, list[tuple[str, Tensor]]]]:
    """Each tensor that holds all experts of a layer, and its pieces, where the other side has them singly."""
    other = {spelling for home in _singly(others) for spelling in (home, *spellings(home))}
    for name, tensor in tensors.items():
        home, separator, rest = name.partition(".experts.")
        leaf = rest.removesuffix(".weight")
        if not separator or leaf not in _FUSED or home not in other:
            continue
        names = _FUSED[leaf]
        if len(tensor.shape) != 3 or tensor.dtype not in _PLAIN or tensor.shape[1] % len(names):
            continue
        experts, rows, columns = tensor.shape
        height = rows // len(names)
        size = height * columns * int(BITS[tensor.dtype][-1])
        if not size or experts * len(names) * size != tensor.size:
            continue
        if _shape(f"{home}.experts.0.{names[0]}", others) not in (None, (height, columns)):
            continue  # stored the other way round
        yield name, [
            (
                f"{home}.experts.{expert}.{part}.weight",
                replace(
                    tensor, shape=(height, columns), size=size,
                    start=tensor.start + (expert * len(names) + number) * size,
                ),
            )
            for expert in range(experts)
            for number, part in enumerate(names)
        ]  # fmt: skip


def _shape(module: str, tensors: dict[str, Tensor]) -> tuple[int, ...] | None:
    """How many weights a module's matrix has in each dimension, under any spelling of its name."""
    for name in (module, *spellings(module)):
        if (weight := tensors.get(f"{name}.weight")) is not None and len(weight.shape) == 2:
            return weight.shape[0], weight.shape[1] * (2 if weight.dtype == "U8" else 1)
    return None


def _replaced(tensors: dict[str, Tensor], pieces: dict[str, list[tuple[str, Tensor]]]) -> dict[str, Tensor]:
    unsplit = {name: tensor for name, tensor in tensors.items() if name not in pieces}
    for each in pieces.values():
        unsplit |= dict(each)
    return unsplit


def _split(whose: str, pieces: dict[str, list[tuple[str, Tensor]]]) -> str:
    count = sum(map(len, pieces.values()))
    first = _kind(min(pieces))
    return (
        f"{whose} keeps all experts of a layer in one tensor ({first}): {count} matrices were cut out of them"
    )
