"""The demo made in every way that this machine has, and one table of the digests for the README.

    make same-bytes              # what can be reached: nixpkgs, and the image that `make image` built
    make same-bytes OFFLINE=1    # no nixpkgs, no registry of images

Offline, Nix runs through the stand-ins that the tests have for the flake's inputs, and the image is built on
a Debian base made by mmdebstrap, from the wheels in uv's cache; the table says so.

A digest is the sha256 over every sealed file's sha256 but the manifest's, whose `platform` names the Python.
The table is between two marks of README.md; a missing tool is reported, never guessed.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from proofcard import manifest
from proofcard.beside_seal import may_lie_beside
from proofcard.digest import sha256_file, sha256_json

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


def by_stand_ins(folder: Path) -> Path:
    """The same, every input of the flake replaced."""
    from nix.flakes import Flake  # of tests/, as is the workshop below

    flake = Flake(folder)
    done = flake.nix("run", output="quantize", after=("--", *_TOLD, "output_dir=checkpoint"), cwd=folder)
    print(done.stderr, done.stdout, sep="", file=sys.stderr)
    if done.returncode:
        raise SystemExit("same-bytes: `nix run .#quantize` through the stand-ins failed, see above")
    flake.forget("packages.x86_64-linux.quantize-env")
    return folder / "checkpoint"


_IN_IMAGE = ("quantize", *_TOLD, "output_dir=checkpoint", "hardware.device=cpu")


def by_container(folder: Path) -> Path:
    """The image that `make image` built, locked down."""
    engine = shutil.which("podman") or "docker"
    folder.chmod(0o777)  # the image's user is another
    locked = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--network", "none")
    _run(engine, "run", "--rm", *locked, "--volume", f"{folder}:/data", "proofcard-quantize", *_IN_IMAGE)
    return folder / "checkpoint"


def by_own_image(folder: Path) -> Path:
    """The same in an image that is built here, and removed."""
    from containers.workshop import workshop

    folder.chmod(0o777)
    with workshop() as shop:
        shop.build("quantize")
        shop.inside("quantize", *_IN_IMAGE, options=("--tmpfs", "/tmp", "--volume", f"{folder}:/data"))
    return folder / "checkpoint"


Way = tuple[str, tuple[str, ...], Callable[[Path], Path]]
_IMAGE = "`docker run … proofcard-quantize quantize`"
WAYS: dict[str, Way] = {
    "uv": ("`uv run proofcard quantize`", ("sh",), by_uv),
    "Nix": ("`nix run .#quantize`", ("nix",), by_nix),
    "container": (_IMAGE, ("podman", "docker"), by_container),
}
OFFLINE: dict[str, Way] = {
    "uv": WAYS["uv"],
    "Nix": ("`nix run .#quantize`, stand-ins for nixpkgs", ("nix",), by_stand_ins),
    "container": (f"{_IMAGE}, Debian base", ("mmdebstrap",), by_own_image),
}


def row(name: str, way: Way, work: Path) -> str:
    """A way's line of the table."""
    command, programs, make = way
    if not any(shutil.which(program) for program in programs):
        return f"| {name} | {command} | not run: no {' nor '.join(programs)} on this machine | |"
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = make(folder)
    key, bytes_of = manifest.read(made).key, digest(made)
    return f"| {name} | {command} | `{bytes_of[:16]}` | `{key[:16]}` |"


def digest(checkpoint: Path) -> str:
    """sha256 over the names and digests of every sealed file but the manifest."""
    files = [path for path in checkpoint.iterdir() if path.is_file() and path.name != manifest.NAME]
    return sha256_json({path.name: sha256_file(path) for path in files if not may_lie_beside(path.name)})


def table(ways: dict[str, Way], work: Path) -> str:
    """The whole table, in Markdown."""
    head = ["| | Command | Bytes of every file | Key |", "|---|---|---|---|"]
    return "\n".join([*head, *(row(name, way, work) for name, way in ways.items())]) + "\n"


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
    """Raises SystemExit when the command fails: its own words are on the screen."""
    print(" ".join(words), file=sys.stderr)
    if subprocess.run(words, cwd=ROOT, check=False).returncode:
        raise SystemExit(
            f"same-bytes: `{words[0]} {words[1]}` failed; without nixpkgs or registry: OFFLINE=1"
        )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    made = table(OFFLINE if sys.argv[1:] == ["offline"] else WAYS, ROOT / "runs" / "same-bytes")
    print(made)
    readme.write_text(written(readme.read_text(), made))
