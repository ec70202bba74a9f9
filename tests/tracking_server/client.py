"""One client of the tracking server: logs through our tracker, at its own pace, and says when it is halfway.

python client.py ADDRESS NAME FOLDER
"""

import sys
import time
from pathlib import Path

from proofcard import tracking
from proofcard.config.schema import Tracking

STEPS = 40


def main(address: str, name: str, folder: Path) -> None:
    """A run with a nested one: parameters, STEPS metrics, an artifact every ten of them."""
    with tracking.opened(Tracking(uri=address, experiment="shared"), name, folder) as tracker:
        tracker.params({"client": name, "deep": {"list": [1, 2, 3]}})
        with tracker.stage(f"{name}-stage"):
            for step in range(STEPS):
                tracker.metrics({"loss": step / 8}, step=step)
                if step % 10 == 0:
                    tracker.text(f"{name} at {step}", f"texts/{step}.txt")
                if step == STEPS // 4:
                    (folder / f"{name}.underway").touch()
                time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
