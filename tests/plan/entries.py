"""python entries.py override …: what the plan says of every tensor and file of the export, as JSON.

One line for layers looked at by one process, one for each layer in a process of its own, and one for one
layer of each kind counted for the others; then the first layer of its kind for each.
"""

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

from proofcard.config import QuantizeConfig, compose
from proofcard.plan.outline import describe
from proofcard.toolchain import activate, materialise

config = compose(QuantizeConfig, "config", sys.argv[1:])
activate(materialise(config.toolchain.series, Path(mkdtemp())))

from proofcard.plan import alike, portions, weights  # noqa: E402  (ModelOpt comes from the toolchain)


def told() -> str:
    taken = weights.take(config, describe(config.model))
    said = {
        "tensors": {entry.name: [entry.dtype, list(entry.shape), entry.size] for entry in taken.entries},
        "order": [entry.name for entry in taken.entries],
        "files": taken.file_bytes,
        "quantizers": [taken.inserted, taken.expected],
        "enabled": taken.enabled,
        "parameters": taken.parameters,
        "groups": [each.values() for each in taken.groups],
        "kinds": [each.values() for each in taken.kinds],
        "globs": [each.values() for each in taken.globs],
        "experts": taken.experts,
    }
    return json.dumps(said)


first_alike = alike.first_alike
alike.first_alike = lambda layers, *_: list(range(len(layers)))
portions.shares = lambda layers, modules: [range(layers)]
print(told())
portions.shares = lambda layers, modules: [range(i, i + 1) for i in range(layers)]
print(told())
firsts: list[list[int]] = []
alike.first_alike = lambda *words: firsts.append(first_alike(*words)) or firsts[-1]  # type: ignore[func-returns-value]
print(told())
print(json.dumps(firsts[-1]))
