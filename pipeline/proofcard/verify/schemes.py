"""How a configuration declares each module: NVFP4, FP8, or neither, in five spellings.

| spelling | by module |
|---|---|
| ModelOpt `quantized_layers` (MIXED_PRECISION) | a name, its `quant_algo` and `group_size` |
| ModelOpt `config_groups` with names as targets | the same, and either must agree with the other |
| compressed-tensors `config_groups` and `ignore` | classes, names and `re:` patterns |
| auto-round `bits`, `data_type`, `extra_config`, `block_name_to_quantize` | names and patterns |
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from proofcard.checkpoint.dialects.naming import spellings
from proofcard.verify.inventory import Inventory, natural
from proofcard.verify.patterns import Pattern, affordable
from proofcard.verify.report import Finding


@dataclass(frozen=True)
class Scheme:
    """How a linear is stored: 4 bits in blocks of `block`, or 8 with a scale per tensor or `channel`.

    `inputs`: what calibration leaves of them: "scale", "none", or "any" where the configuration is silent.
    """

    bits: int
    block: int | None = None
    channel: bool = False
    inputs: str = "any"

    def text(self) -> str:
        """In words."""
        if self.bits == 4:
            return f"NVFP4 in blocks of {self.block or 16}"
        return f"FP8 with a scale for each {'row' if self.channel else 'tensor'}"


@dataclass
class Schemes:
    """Schemes by pattern, the first that matches counts; `ignored` comes before all of them."""

    groups: list[tuple[Pattern, Scheme | None]] = field(default_factory=list)
    ignored: list[Pattern] = field(default_factory=list)
    exact: dict[str, Scheme] = field(default_factory=dict)
    below: tuple[str, ...] = ()  # where linears are quantized at all; empty: everywhere
    file: str = "config.json"

    @cached_property
    def _left_out(self) -> set[str]:
        return {pattern.exact for pattern in self.ignored if pattern.exact is not None}

    @cached_property
    def _inexact(self) -> list[Pattern]:
        return [pattern for pattern in self.ignored if pattern.exact is None]

    def patterns(self) -> list[Pattern]:
        """All of them."""
        return [*self.ignored, *(pattern for pattern, _ in self.groups)]

    def of(self, module: str) -> Scheme | None:
        """The scheme of a linear, under any spelling of its name; None: it is not quantized."""
        names = (module, *spellings(module))
        for name in names:
            if name in self.exact:
                return self.exact[name]
        if any(name in self._left_out or any(p.matches(name) for p in self._inexact) for name in names):
            return None
        for pattern, scheme in self.groups:
            if not pattern.everything and any(pattern.matches(name) for name in names):
                return scheme
        if self.below and not any(name.startswith(f"{home}.") for home in self.below for name in names):
            return None
        return next((scheme for pattern, scheme in self.groups if pattern.everything), None)


def check(
    schemes: Schemes, inventory: Inventory, blocks: Mapping[str, int], notes: list[str]
) -> Iterator[Finding]:
    """Every linear is stored as the configuration says, and what it ignores is there."""
    modules = inventory.modules()
    if not affordable(schemes.patterns(), modules):
        yield Finding("mismatched", "its patterns would take too long to match", file=schemes.file)
        return
    for module in inventory.quantized:
        scheme = schemes.of(module)
        if scheme is None:
            message = "quantized to NVFP4, but the configuration does not say so"
            yield Finding("mismatched", message, tensor=f"{module}.weight")
        elif scheme.bits != 4 or scheme.block not in (None, blocks.get(module)):
            stored = f"NVFP4 in blocks of {blocks.get(module, 16)}"
            message = f"it is {stored}; the configuration says {scheme.text()}"
            yield Finding("mismatched", message, tensor=f"{module}.weight")
    for module in inventory.fp8:
        scheme = schemes.of(module)
        own = Scheme(8, channel=inventory.tensors[f"{module}.weight_scale"].size > 4)
        if scheme is None or scheme.bits != 8 or scheme.channel != own.channel:
            wanted = scheme.text() if scheme else "that it is not quantized"
            message = f"it is {own.text()}; the configuration says {wanted}"
            yield Finding("mismatched", message, tensor=f"{module}.weight")
    for module in inventory.linears():
        scheme = schemes.of(module)
        if scheme is not None and not _embedding(module):
            message = (
                f"not quantized; the configuration says {scheme.text()}, so an engine looks for its scales"
            )
            yield Finding("mismatched", message, tensor=f"{module}.weight")
    yield from _named(schemes, inventory, modules, notes)


def _named(
    schemes: Schemes, inventory: Inventory, modules: Iterable[str], notes: list[str]
) -> Iterator[Finding]:
    """Names and patterns that match nothing: a note for what is ignored, damage for what should be there."""
    known = {name for module in modules for name in (module, *spellings(module))}
    for module in sorted(schemes.exact.keys() - known, key=natural):
        yield Finding(
            "missing", "the configuration declares how it is quantized, but it is missing", tensor=module
        )
    for pattern in schemes.ignored:
        if pattern.exact not in known and not pattern.everything and not any(map(pattern.matches, known)):
            notes.append(f"{pattern.text!r} in the configuration's ignore list matches no module")
    for pattern, scheme in schemes.groups:
        if scheme is not None and not pattern.everything and not any(map(pattern.matches, known)):
            notes.append(f"target {pattern.text!r} of the configuration matches no module")


def _embedding(module: str) -> bool:
    return "embed" in module.rpartition(".")[2]
