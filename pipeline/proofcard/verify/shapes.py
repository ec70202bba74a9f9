"""Checks shapes of tensors against the source, or, without one, against similar tensors."""

from collections.abc import Iterator

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.verify.inventory import Inventory, kind, natural
from proofcard.verify.layout import FLOATS
from proofcard.verify.report import Finding


def of_source(inventory: Inventory, source: Source) -> Iterator[Finding]:
    """Every weight has as many values in each dimension as the source's."""
    eight = set(inventory.fp8)
    for name in sorted(inventory.model & source.tensors.keys(), key=natural):
        tensor, wanted = inventory.tensors[name], source.tensors[name].shape
        packed = tensor.dtype == "U8" and source.tensors[name].dtype != "U8"
        have = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if packed and tensor.shape else tensor.shape
        if have != wanted:
            message = f"it holds {list(have)} weights, the source {list(wanted)}"
            yield Finding("mismatched", message, tensor=name)
        elif name.removesuffix(".weight") in eight:
            continue
        elif not packed and tensor.dtype not in FLOATS and tensor.dtype != source.dtype(name):
            yield Finding(
                "mismatched", f"it is {tensor.dtype}, in the source {source.dtype(name)}", tensor=name
            )


def regular(inventory: Inventory) -> Iterator[Finding]:
    """The experts of a layer have one shape and dtype each for what they have in common.

    Layers may vary in size, but none has as many bytes as another in another shape or dtype.
    """
    sizes: dict[tuple[str, int], Tensor] = {}
    for name in sorted(inventory.tensors, key=natural):
        tensor = inventory.tensors[name]
        other = sizes.setdefault((kind(name), tensor.size), tensor)
        scalars = {tensor.shape, other.shape} == {(), (1,)}
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape) and not scalars:
            own, fellow = (f"{one.dtype} {list(one.shape)}" for one in (tensor, other))
            yield Finding("mismatched", f"it is {own}; {other.name} is {fellow}", tensor=name)
    first: dict[tuple[str, str], Tensor] = {}
    for name in sorted(inventory.tensors, key=natural):
        before, expert, after = name.partition(".experts.")
        if not expert or not after.partition(".")[0].isdigit():
            continue
        tensor = inventory.tensors[name]
        other = first.setdefault((before, after.partition(".")[2]), tensor)
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            own, fellow = (f"{one.dtype} {list(one.shape)}" for one in (tensor, other))
            if tensor.size != other.size:  # else it is named already
                yield Finding("mismatched", f"it is {own}; {other.name} is {fellow}", tensor=name)
