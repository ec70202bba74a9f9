"""The patch series and their state.

    python -m proofcard.toolchain                # every series, every patch, and what is materialised
    python -m proofcard.toolchain fixed          # materialise a series first
    python -m proofcard.toolchain --root FOLDER

Exit status 0: everything is as declared. 1: the installed package was modified, or a folder is broken.
"""

import argparse
import sys
from pathlib import Path

from rich.table import Table

from proofcard.screen import Screen
from proofcard.toolchain import installed as installation
from proofcard.toolchain.folder import DEFAULT_ROOT, NONE, blueprint, materialise, state
from proofcard.toolchain.installed import Installed
from proofcard.toolchain.series import Patch, PatchSet, ToolchainError, load

_PACKAGE = "nvidia-modelopt"


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m proofcard.toolchain", description="Patch series of ModelOpt."
    )
    parser.add_argument("series", nargs="*", help="materialise these first")
    parser.add_argument(
        "--root", type=Path, default=DEFAULT_ROOT, help="where the folders are (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        for name in options.series:
            materialise(name, options.root)
        installed = installation.find(_PACKAGE)
        declared, _ = load(installed.package, installed.version)
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 1
    table = Table("series", "patch", "what it does", "upstream files", "folder")
    troubles: list[str] = []
    for name in (*declared.series, NONE):
        upstream, folder, trouble = _states(name, options.root)
        troubles += [trouble] if trouble else []
        title = "the installed package" if name == NONE else declared.series[name].title
        table.add_row(name, "", title, upstream, folder, style="bold")
        for patch in () if name == NONE else declared.chain(name):
            table.add_row(
                "", patch.file.split("-")[0], patch.title, _upstream(patch, declared, installed), ""
            )
        table.add_section()
    Screen().print(table)
    for trouble in dict.fromkeys(troubles):
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


def _upstream(patch: Patch, declared: PatchSet, installed: Installed) -> str:
    """Whether the installed files that a patch changes are the released ones."""
    released: dict[str, str] = {}
    for series in declared.series.values():
        for change in (change for each in series.patches for change in each.files):
            released.setdefault(change.path, change.before)
    drifted = [
        change.path for change in patch.files if installed.files.get(change.path) != released[change.path]
    ]
    return f"modified: {', '.join(drifted)}" if drifted else "pristine"


def _states(name: str, root: Path) -> tuple[str, str, str | None]:
    try:
        plan = blueprint(name, root)
    except ToolchainError as error:
        return "drifted", "unknown", str(error)
    if name == NONE:
        return "pristine", "not needed", None
    try:
        return "pristine", state(plan), None
    except ToolchainError as error:
        return "pristine", "broken", str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
