"""The linears of level `structure` as steps: findings of each, and what checks across linears need."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from proofcard.checkpoint.dialects.layouts import MODELOPT
from proofcard.checkpoint.dialects.view import View
from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import BLOCK
from proofcard.progress import Bar
from proofcard.verify import linears
from proofcard.verify.inventory import SCALES, Inventory
from proofcard.verify.plausible import FULL, BlockScales
from proofcard.verify.quantconfig import Declaration
from proofcard.verify.report import Finding
from proofcard.verify.steps import Passing, Whole


@dataclass
class LinearOutcome:
    """The result of one linear. `largest` is the largest code of its block scales, if all are valid."""

    findings: list[Finding]
    largest: int | None = None

    def add(self, module: str, codes: np.ndarray) -> None:
        """Keep the largest code for `BlockScales.add`."""
        self.largest = int(codes.max())


def every(
    inventory: Inventory,
    view: View,
    declared: Declaration,
    blocks: dict[str, int],
    unscaled: bool,
    passing: Passing,
) -> tuple[list[Finding], BlockScales]:
    """Each quantized linear by itself, in natural order, those in FP8 last.

    `unscaled`: not one of them has an input scale.
    """
    tensors = inventory.tensors
    largest = BlockScales(FULL / 6 if declared.algorithm == "W4A8_NVFP4_FP8" else FULL)
    eight = set(inventory.fp8)
    modules = [*inventory.quantized, *inventory.fp8]

    def look(module: str) -> LinearOutcome:
        scheme, outcome = declared.scheme(module), LinearOutcome([])
        if module in eight:
            outcome.findings += linears.fp8_linear(module, tensors, scheme)
            return outcome
        inputs = "none" if unscaled else scheme.inputs if scheme is not None else "scale"
        layout = view.layouts.get(module, MODELOPT)
        outcome.findings += linears.linear(
            module, tensors, outcome, blocks.get(module, BLOCK), inputs, layout
        )
        return outcome

    def reads(module: str) -> Iterator[Tensor]:
        names = (f"{module}.{leaf}" for leaf in ("weight", *SCALES))
        return (tensors[name] for name in names if name in tensors)

    steps = passing.steps("structure", modules, reads, str, Whole(LinearOutcome))
    outcomes: dict[str, LinearOutcome] = {}
    with Bar("structure", len(modules), "quantized linears") as bar:
        for module in steps.ordered:
            outcomes[module] = outcome = steps.run(module, partial(look, module))
            if outcome.largest is not None:
                largest.add(module, np.array([outcome.largest], np.uint8))
            bar.advance()
    return [finding for module in modules for finding in outcomes[module].findings], largest
