"""Checks ModelOpt's exclude patterns against the modules of a checkpoint."""

import fnmatch
import re
from collections.abc import Iterator

from proofcard.checkpoint.ties import Ties
from proofcard.verify.inventory import Inventory
from proofcard.verify.quantconfig import Declaration
from proofcard.verify.report import Finding

_MOST_MATCHES = 100_000_000  # of patterns with modules; Kimi K2 takes 20 million
_PREDICTION = re.compile(r"(^|[.*])(mtp|nextn|eh_proj|enorm|hnorm|shared_head)")


def patterns_name_modules(
    declared: Declaration, inventory: Inventory, ties: Ties, notes: list[str]
) -> Iterator[Finding]:
    """Each exclude pattern matches a module (vLLM #40252) and no quantized one; each plain linear has one."""
    modules = inventory.modules()
    modules |= ties.modules(inventory.model)
    if len(declared.patterns) * len(modules) > _MOST_MATCHES:
        message = f"{len(declared.patterns):,} exclude patterns are too many for {len(modules):,} modules"
        yield Finding("mismatched", message, file=declared.file)
        return
    for pattern in declared.patterns:
        if fnmatch.filter(modules, pattern):
            continue
        if _PREDICTION.search(pattern):
            notes.append(f"exclude pattern {pattern!r} names multi-token prediction, which is not stored")
        else:
            yield Finding("mismatched", f"exclude pattern {pattern!r} matches no module", file=declared.file)
    covered = re.compile("|".join(fnmatch.translate(pattern) for pattern in declared.patterns) or r"(?!)")
    for module in inventory.quantized:
        if covered.match(module):
            yield Finding(
                "mismatched", "quantized, although an exclude pattern covers it", tensor=f"{module}.weight"
            )
    for module in inventory.linears():
        if not any(covered.match(name) for name in _upwards(module)):
            message = (
                "neither quantized nor excluded by a pattern: engines treat it as quantized and look for "
                "scales that are not there"
            )
            yield Finding("mismatched", message, tensor=f"{module}.weight")


def _upwards(module: str) -> Iterator[str]:
    while module:
        yield module
        module = module.rpartition(".")[0]
