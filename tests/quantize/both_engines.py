"""Quantize one source with both engines in every combination, in one process: ModelOpt is slow to import.

    python tests/quantize/both_engines.py FOLDER NAME=OVERRIDE,OVERRIDE… -- SHARED OVERRIDES…

Writes FOLDER/NAME-ENGINE, or FOLDER/NAME-ENGINE.txt with the sentence that stopped it. A name FAULT@ANYTHING
runs engine=layerwise alone and with that fault: what holds the engines together must see it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Stop
from proofcard.quantize import dry_run, planning, preparing
from proofcard.quantize.command import execute


@contextmanager
def other_batches(change: Callable[[list[Any]], list[Any]]) -> Iterator[None]:
    """Calibrate with changed batches."""
    drawn = preparing.batches
    with patch.object(preparing, "batches", lambda *said: change(list(drawn(*said)))):
        yield


@contextmanager
def other_statistics(change: Callable[[Any], None]) -> Iterator[None]:
    """Change what was found in the last layer: a `Statistics` whose `amax` lists linears in their order."""
    from proofcard.quantize.layerwise.calibrate import LayerCalibration

    run = LayerCalibration.run

    def wrong(self: Any, index: int, *others: Any) -> Any:
        found = run(self, index, *others)
        if index == len(self._structure.layers) - 1:
            change(found)
        return found

    with patch.object(LayerCalibration, "run", wrong):
        yield


def last_expert_a_step_up(found: Any) -> None:
    """The amax of the last expert's w2 grows by half of a BF16 step or more."""
    name = [name for name in found.amax if name.endswith(".w2")][-1]
    found.amax[name] *= 1 + 2**-8


def last_bias_a_step_up(found: Any) -> None:
    """One number of one affine bias becomes its BF16 neighbour."""
    import torch

    bias = list(found.biases.values())[-1]["v"].view(torch.int16)
    bias.view(-1)[-1] += 1


FAULTS: dict[str, Callable[[], Any]] = {
    "last_batch_missing": lambda: other_batches(lambda drawn: drawn[:-1]),
    "batches_backwards": lambda: other_batches(lambda drawn: drawn[::-1]),
    "amax_a_step_up": lambda: other_statistics(last_expert_a_step_up),
    "bias_a_step_up": lambda: other_statistics(last_bias_a_step_up),
}


def find_out_once() -> None:
    """What is found out of the toolchain alone, or of a model's sizes, holds for the runs that follow."""
    tried: set[tuple[str, str]] = set()
    check = dry_run.check

    def check_once(model: Any, where: str) -> None:
        case = (where, model.config._attn_implementation)
        if case not in tried:
            check(model, where)
            tried.add(case)

    planning.materialise = cache(planning.materialise)
    dry_run.check = check_once


def main(folder: Path, combinations: list[str], shared: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    find_out_once()
    every = [*shared, "tracking=off", f"work_dir={folder}/runs"]

    @cache
    def composed(said: str) -> QuantizeConfig:
        return compose(QuantizeConfig, "config", [*every, *filter(None, said.split(","))])

    engines = {
        name: compose(QuantizeConfig, "config", [*every, f"engine={name}"]).engine
        for name in ("layerwise", "modelopt")
    }
    for combination in combinations:
        name, _, said = combination.partition("=")
        fault, _, is_fault = name.partition("@")
        for engine in ("layerwise",) if is_fault else engines:
            where = folder / f"{name}-{engine}"
            config = composed(said).model_copy(update={"engine": engines[engine], "output_dir": where})
            try:
                with FAULTS[fault]() if is_fault else nullcontext():
                    execute(config)
            except Stop as stop:
                where.with_suffix(".txt").write_text(str(stop))


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1 :])
