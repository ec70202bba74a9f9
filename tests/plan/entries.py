"""python entries.py override …: what the plan says of every tensor and file of the export, as JSON."""

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

from pipeline.config import QuantizeConfig, compose
from pipeline.plan.outline import describe
from pipeline.toolchain import activate, materialise

config = compose(QuantizeConfig, "config", sys.argv[1:])
activate(materialise(config.toolchain.series, Path(mkdtemp())))

from pipeline.plan import inventory  # noqa: E402  (ModelOpt comes from the toolchain)

taken = inventory.take(config, describe(config.model))
said = {
    "tensors": {entry.name: [entry.dtype, list(entry.shape), entry.size] for entry in taken.entries},
    "files": taken.file_bytes,
    "quantizers": [taken.inserted, taken.expected],
    "parameters": taken.parameters,
    "groups": taken.groups,
}
print(json.dumps(said))
