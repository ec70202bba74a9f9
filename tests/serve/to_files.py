"""Our command, its standard output in the file `out.txt` of the working folder, its errors in `err.txt`."""

import os
import sys

from proofcard.cli import main

for number, name in ((1, "out.txt"), (2, "err.txt")):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
sys.exit(main())
