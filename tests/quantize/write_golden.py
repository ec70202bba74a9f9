"""Write `golden/demo_weights.json` anew from a demo checkpoint: python tests/quantize/write_golden.py DIR.

Only tensors that follow from the source alone: what calibration decides differs between numeric platforms.
"""

import sys
from pathlib import Path

from proofcard import manifest
from proofcard.checkpoint.roles import CALIBRATED
from proofcard.digest import readable_json

sealed = manifest.read(Path(sys.argv[1]))
tensors = {
    name: entry.sha256 for name, entry in sealed.outputs.tensors.items() if not name.endswith(CALIBRATED)
}
origin = {
    "made by": "proofcard quantize recipe=demo, engine=modelopt",
    "source": sealed.inputs["source"]["digest"],
    "patches": sealed.toolchain["patches"],
    "packages": sealed.toolchain["packages"],
}
target = Path(__file__).parent / "golden" / "demo_weights.json"
target.parent.mkdir(exist_ok=True)
target.write_text(readable_json({"origin": origin, "tensors": tensors}))
