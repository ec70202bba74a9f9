"""The demo made in every way that this machine has, and one table of the digests for the README.

    python scripts/same_bytes.py           # after `make demo`; what `make same-bytes` runs

A digest is the sha256 over every file's sha256 but the manifest's, whose `platform` names the Python.
The table stands between two marks of README.md; a way that is not there is said to be so, never guessed.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import manifest
from pipeline.digest import sha256_file, sha256_json

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- same bytes -->\n", "<!-- /same bytes -->\n")
_TOLD = ("recipe=demo", "tracking=off")


def by_uv(folder: Path) -> Path:
    """What `make demo` left."""
    return ROOT / "runs" / "checkpoints" / "demo"


def by_nix(folder: Path) -> Path:
    """The flake's `quantize`."""
    _run("nix", "run", ".#quantize", "--", *_TOLD, f"output_dir={folder}/checkpoint", f"work_dir={folder}")
    return folder / "checkpoint"


def by_container(folder: Path) -> Path:
    """The image that `make image` built, locked down."""
    engine = shutil.which("podman") or "docker"
    folder.chmod(0o777)  # the image's user is another
    locked = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--network", "none")
    _run(
        engine, "run", "--rm", *locked, "--volume", f"{folder}:/data", "proofcard-quantize",
        "quantize", *_TOLD, "output_dir=checkpoint", "hardware=cpu",
    )  # fmt: skip
    return folder / "checkpoint"


WAYS: dict[str, tuple[str, tuple[str, ...], Callable[[Path], Path]]] = {
    "uv": ("`uv run quantize`", ("sh",), by_uv),
    "Nix": ("`nix run .#quantize`", ("nix",), by_nix),
    "container": ("`docker run … proofcard-quantize quantize`", ("podman", "docker"), by_container),
}


def row(name: str, work: Path) -> str:
    """A way's line of the table."""
    command, programs, make = WAYS[name]
    if not any(shutil.which(program) for program in programs):
        return f"| {name} | {command} | not run: no {' nor '.join(programs)} on this machine | |"
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = make(folder)
    key, bytes_of = manifest.read(made)["key"], digest(made)
    return f"| {name} | {command} | `{bytes_of[:16]}` | `{key[:16]}` |"


def digest(checkpoint: Path) -> str:
    """sha256 over the names and digests of every file but the manifest."""
    files = {path.name: sha256_file(path) for path in checkpoint.iterdir() if path.name != manifest.NAME}
    return sha256_json(files)


def table(work: Path) -> str:
    """The whole table, in Markdown."""
    head = ["| | Command | Bytes of every file | Key |", "|---|---|---|---|"]
    return "\n".join([*head, *(row(name, work) for name in WAYS)]) + "\n"


def written(readme: str, new: str) -> str:
    """The README with the table between its marks.

    Raises:
        SystemExit: when the marks are not there.
    """
    opening, closing = MARKS
    before, mark, rest = readme.partition(opening)
    _, end, after = rest.partition(closing)
    if not (mark and end):
        raise SystemExit(
            f"README.md has no lines {opening.strip()} and {closing.strip()} to put the table between"
        )
    return before + mark + new + end + after


def _run(*words: str) -> None:
    print(" ".join(words), file=sys.stderr)
    subprocess.run(words, cwd=ROOT, check=True)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    made = table(ROOT / "runs" / "same-bytes")
    print(made)
    readme.write_text(written(readme.read_text(), made))
