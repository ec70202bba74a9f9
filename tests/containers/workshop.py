"""Images without a registry: podman on a Debian base from mmdebstrap, the wheels from uv's cache."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from running import ROOT, uv_cache

NEEDED = ("podman", "mmdebstrap", "runc")
LOCKED_DOWN = ("--read-only", "--cap-drop", "all", "--network", "none", "--security-opt", "no-new-privileges")
SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


@dataclass(frozen=True)
class Workshop:
    """podman with a store of its own, the base image and uv's in it."""

    folder: Path

    def run(self, *words: str | Path, cwd: Path = ROOT) -> str:
        """A command with this store; its output."""
        own = {
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "TMPDIR": str(self.folder),
            "ENGINE": "podman",
        }
        said = subprocess.run(
            words, env=os.environ | own, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, (said.stdout + said.stderr)[-4000:]
        return said.stdout

    def build(self, target: str, checkout: Path = ROOT) -> str:
        """The image of a target, without a network; its digest, which is of every layer too."""
        self.run(
            checkout / "scripts" / "image", target, "--quiet", "--no-cache", "--network", "none",
            "--build-arg", "BASE_IMAGE=localhost/base", "--build-arg", "COMPILER_IMAGE=localhost/base",
            "--build-arg", "UV_IMAGE=localhost/uv", "--build-arg", "PYTHON_VERSION=3.11",
            "--volume", f"{uv_cache()}:/mnt:O", cwd=checkout,
        )  # fmt: skip
        return self.run("podman", "image", "inspect", "--format", "{{.Id}}", f"proofcard-{target}").strip()

    def inside(self, target: str, *words: str, options: tuple[str, ...] = ()) -> str:
        """A command in a container of a target's image that may do nothing; its output."""
        return self.run("podman", "run", "--rm", *LOCKED_DOWN, *options, f"proofcard-{target}", *words)


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    """The store, in /var/tmp: a build's tmpfs over /tmp would hide it there. It is removed at the end.

    It is one for each checkout, so that what a killed run left is found, and removed too.
    """
    missing = [program for program in NEEDED if shutil.which(program) is None]
    assert not missing, f"apt-get install --no-install-recommends podman netavark runc mmdebstrap: {missing}"
    checkout = hashlib.sha256(bytes(ROOT)).hexdigest()[:8]
    folder = Path("/var/tmp") / f"proofcard-images-{checkout}"
    made = Workshop(folder)
    folder.mkdir(exist_ok=True)
    (folder / "containers.conf").write_text(SETTINGS)
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    try:
        base = folder / "base.tar"
        packages = "--include=python3,ca-certificates,libstdc++6"
        made.run("mmdebstrap", "--variant=essential", packages, "bookworm", base)
        made.run("podman", "import", "--quiet", base, "base")
        tools = folder / "uv"
        tools.mkdir(exist_ok=True)
        shutil.copy(_installed_uv(), tools / "uv")
        (tools / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
        made.run("podman", "build", "--quiet", "--timestamp", "0", "--tag", "uv", tools)
        yield made
    finally:
        made.run("podman", "system", "prune", "--all", "--force", "--volumes")
        shutil.rmtree(folder, ignore_errors=True)


def _installed_uv() -> Path:
    """The very uv that filled the cache: another version may not read it."""
    words = [ROOT / "scripts" / "uv", "run", "--no-project", "sh", "-c", "echo $UV"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    return Path(said.stdout.strip()).resolve()
