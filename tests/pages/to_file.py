"""`make ui`, its standard output in the file `ui.out` of the working folder."""

import os
import runpy
import sys
from pathlib import Path

UI = Path(__file__).parents[2] / "mlflow" / "ui.py"

os.dup2(os.open("ui.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
sys.path[0] = str(UI.parent)
runpy.run_path(str(UI), run_name="__main__")
