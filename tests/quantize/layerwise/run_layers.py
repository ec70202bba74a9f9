"""Runs the loop over layers of a tiny model, on a CPU, and writes down what came of it.

    run_layers.py twice|writing SOURCE OVERRIDE…

`twice` does it and then does it again, nothing of it being left to do; `writing` looks at when what a thread
writes and reads is waited for.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig, compose
from proofcard.ranks import Ranks
from proofcard.toolchain import activate, materialise


def batch(samples: int = 2, tokens: int = 5) -> Batch:
    ids = np.random.default_rng(5).integers(1, 300, (samples, tokens))
    return Batch(ids, np.ones_like(ids))


def new(name: str) -> Path:
    Path(name).mkdir()
    return Path(name)


def twice(config: QuantizeConfig, source: Source) -> list[Any]:
    """The layers reported, and their records, of both."""
    from proofcard.quantize.layerwise import run

    found = []
    folder, state = new("folder"), new("state")
    for again in (False, True):
        seen: list[int] = []
        work = run.Run(config, source, [batch()], "cpu", folder, state, Ranks())
        if again:
            run.LayerCalibration = lambda *_: None  # type: ignore[assignment,misc,return-value]
        records = work.layers(lambda index, _, seen=seen: seen.append(index))
        found.append([seen, records])
    return found


def writing(config: QuantizeConfig, source: Source) -> list[Any]:
    """Of 15 batches and of 3: whether it was waited for at each; and whether it ever was, of every layer."""
    from proofcard.quantize.layerwise import run

    waiting: list[Any] = []
    begin = run.Run._writing
    run.Run._writing = lambda self, *said: (waiting.append(said[-1]), begin(self, *said))[1]  # type: ignore[method-assign]
    seen: dict[int, list[bool]] = {}
    for count in (15, 3):
        seen[count] = []
        run.Layers.advance = lambda *_, count=count: seen[count].append(waiting[-1].is_set())  # type: ignore[method-assign]
        places = new(f"folder-{count}"), new(f"state-{count}")
        run.Run(config, source, [batch(1, 2)] * count, "cpu", *places, Ranks()).layers(lambda *_: None)
    return [seen, [event.is_set() for event in waiting]]


if __name__ == "__main__":
    what, source, *overrides = sys.argv[1:]
    config = compose(QuantizeConfig, "config", overrides)
    activate(materialise(config.toolchain.series, Path("toolchains")))
    found = {"twice": twice, "writing": writing}[what](config, Source(Path(source)))
    Path("found.json").write_text(json.dumps(found))
