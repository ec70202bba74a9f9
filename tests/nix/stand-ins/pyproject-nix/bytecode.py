"""`bytecode.py ENVIRONMENT HOST`: an environment takes the byte code that the host's has of the same files.

Python itself ignores what is not of the same file. The store cannot be written to: every program would
compile all that it imports.
"""

import os
import sys
from pathlib import Path

environment, host = map(Path, sys.argv[1:])
for folder, _, _ in os.walk(environment / "lib"):
    there = host / Path(folder).relative_to(environment) / "__pycache__"
    here = Path(folder) / "__pycache__"
    if there.is_dir() and not here.exists():
        here.symlink_to(there)
