"""A checkpoint as one would see it if ModelOpt had written it with the source's names."""

import copy
from dataclasses import dataclass, field

from proofcard.checkpoint.dialects.layouts import COMPRESSED, Layout, renamed
from proofcard.checkpoint.dialects.naming import aligned
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor


@dataclass
class View:
    """`tensors` by ModelOpt's leaves and the source's modules; `layouts` by the same modules."""

    tensors: dict[str, Tensor]
    layouts: dict[str, Layout] = field(default_factory=dict)
    mappings: list[str] = field(default_factory=list)

    def stored_as(self, name: str | None) -> str | None:
        """The name in the checkpoint's files of what is `name` here, also where it is missing there."""
        if name is None or name in self.tensors:
            return name if name is None else self.tensors[name].name
        module, _, leaf = name.rpartition(".")
        layout = self.layouts.get(module)
        if layout is not COMPRESSED:
            return name
        names = {ours: theirs for theirs, ours in COMPRESSED.canonical().items()}
        return f"{module}.{names.get(leaf, leaf)}"


def viewed(
    tensors: dict[str, Tensor], source: Source | None, compressed: bool = True
) -> tuple[View, Source | None]:
    """The checkpoint in one set of names, and the source cut into the same pieces.

    `compressed`: whether it may have names of compressed-tensors.
    """
    canonical, layouts = renamed(tensors, compressed)
    if source is None:
        return View(canonical, layouts), None
    canonical, cut, notes = aligned(canonical, source.tensors)
    if cut is not source.tensors:
        source = copy.copy(source)
        source.tensors = cut
    stems = {tensor.name.rpartition(".")[0]: name.rpartition(".")[0] for name, tensor in canonical.items()}
    return View(canonical, {stems.get(stem, stem): layout for stem, layout in layouts.items()}, notes), source
