"""Locates the environments of tools that cannot share ours: SGLang, vLLM, the load generator.

`uv.lock` resolves each extra separately. An extra's programs are searched in this order: in the folder
in the variable PROOFCARD_ENV_<EXTRA> (Nix, a cluster), in this environment (an image built for that
extra), and in `.venv-<extra>` of the checkout, which `make setup-<extra>` creates.
"""

import os
import sys
from pathlib import Path
from typing import Literal

from proofcard.bundle import bundled
from proofcard.errors import Usage

Extra = Literal["serve", "vllm", "bench"]


def program(extra: Extra, name: str) -> Path:
    """The path of a program in an extra's environment: `python`, or a console script.

    Raises:
        Usage: when the extra is not installed, with the command that installs it.
    """
    variable = f"PROOFCARD_ENV_{extra.upper()}"
    if variable in os.environ:
        found = Path(os.environ[variable]) / "bin" / name
        if not found.exists():
            raise Usage(
                f"{variable}={os.environ[variable]} has no bin/{name}: set it to an environment with extra "
                f"{extra}"
            )
        return found
    folders = (Path(sys.prefix), bundled("uv.lock").parent / f".venv-{extra}")
    for folder in folders:
        if (folder / "bin" / _MARK[extra]).exists() and (folder / "bin" / name).exists():
            return folder / "bin" / name
    raise Usage(
        f"{_MARK[extra]} is not installed: run `make setup-{extra}`, or set {variable} to its environment"
    )


_MARK = {"serve": "sglang", "vllm": "vllm", "bench": "aiperf"}  # the console script that only this extra has
