"""Nix as a test calls it: the checkout as a flake, its inputs replaced by the stand-ins beside this file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, uv_cache

STAND_INS = Path(__file__).parent / "stand-ins"
INPUTS = ("nixpkgs", "pyproject-nix", "uv2nix", "build-system-pkgs")
SETTINGS = """\
experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
flake-registry =
"""
needs_nix = pytest.mark.skipif(
    shutil.which("nix") is None or os.getuid() != 0,
    reason="NOT CHECKED HERE: no Nix, or not root to use it without a daemon: apt-get install nix-bin",
)


class Flake:
    """A copy of the checkout, and Nix commands on it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkout"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.path / name)
        self._inputs = shutil.copytree(STAND_INS, folder / "stand-ins")
        (self._inputs / "nixpkgs/host.json").write_text(json.dumps(_host()))

    def nix(
        self, *arguments: str, output: str = "", after: tuple[str, ...] = (), cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`nix <arguments> <the flake>#<output> <after>` with every input overridden."""
        overrides = [
            word for name in INPUTS for word in ("--override-input", name, f"path:{self._inputs / name}")
        ]
        flake = f"path:{self.path}" + (f"#{output}" if output else "")
        return subprocess.run(
            ["nix", *arguments, *overrides, "--no-write-lock-file", flake, *after],
            cwd=cwd or self.path, env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip

    def value(self, output: str, apply: str = "x: x") -> Any:
        """An output, or what a function makes of it, as JSON values."""
        said = self.nix("eval", "--json", "--apply", apply, output=output)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    def forget(self, output: str) -> None:
        """Take what was built for an output out of the store, and all that was built with it."""
        path = self.value(f"{output}.outPath", "builtins.unsafeDiscardStringContext")
        users = subprocess.run(
            ["nix-store", "--query", "--referrers-closure", path],
            env=_environment(), capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        subprocess.run(["nix-store", "--delete", *users], env=_environment(), capture_output=True, check=True)

    def locked(self) -> subprocess.CompletedProcess[str]:
        """What Nix makes of flake.nix and flake.lock, nothing overridden and nothing fetched."""
        return subprocess.run(
            ["nix", "flake", "metadata", "--json", "--no-update-lock-file", f"path:{self.path}"],
            env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip


def _environment() -> dict[str, str]:
    return os.environ | {"NIX_CONFIG": SETTINGS}


def _host() -> dict[str, str]:
    """The programs of this machine that the stand-in for nixpkgs hands out."""
    return {
        "python": os.path.realpath(sys.executable),
        "environment": sys.prefix,
        "uv": str(ROOT / "scripts/uv"),
        "cache": uv_cache(),
        "path": "/usr/local/bin:/usr/bin:/bin",
    }
