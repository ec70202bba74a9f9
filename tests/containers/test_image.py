"""The images for real: podman on a Debian base made here, from the wheels in uv's cache, without a network.

`make image-check` runs this; it takes minutes and 20 GB of disk. It shows that the same commit gives the same
image, and that the demo in an image that may do nothing gives the bytes of `uv run`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import ROOT, contents, quantize

NEEDED = ("podman", "mmdebstrap", "runc")
pytestmark = [
    pytest.mark.skipif("PROOFCARD_IMAGES" not in os.environ, reason="images are built by `make image-check`"),
    pytest.mark.timeout(3600),
]
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

    def build(self, target: str, checkout: Path, *more: str) -> str:
        """The image of a target, without a network; its digest."""
        cache = subprocess.run(
            [ROOT / "scripts" / "uv", "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self.run(
            checkout / "scripts" / "image", target, "--quiet", "--no-cache", "--network", "none",
            "--build-arg", "BASE_IMAGE=localhost/base", "--build-arg", "COMPILER_IMAGE=localhost/base",
            "--build-arg", "UV_IMAGE=localhost/uv", "--build-arg", "PYTHON_VERSION=3.11",
            "--volume", f"{cache}:/mnt:O", *more, cwd=checkout,
        )  # fmt: skip
        return self.digest(f"proofcard-{target}")

    def digest(self, image: str) -> str:
        """An image's digest, of its configuration and so of every layer."""
        return self.run("podman", "image", "inspect", "--format", "{{.Id}}", image).strip()

    def inside(self, image: str, *words: str, options: tuple[str, ...] = ()) -> str:
        """A command in a container that may do nothing."""
        return self.run("podman", "run", "--rm", *LOCKED_DOWN, *options, image, *words)


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The store, below the checkout: /tmp is too small, and a tmpfs in a build. It is removed at the end."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    assert not missing, f"apt-get install --no-install-recommends podman netavark runc mmdebstrap: {missing}"
    folder = ROOT / ".image_cache"
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
        shutil.copy(installed_uv(), tools / "uv")
        (tools / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
        made.run("podman", "build", "--quiet", "--timestamp", "0", "--tag", "uv", tools)
        yield made
    finally:
        made.run("podman", "system", "prune", "--all", "--force", "--volumes")
        shutil.rmtree(folder, ignore_errors=True)


def installed_uv() -> Path:
    """The very uv that filled the cache: another version may not read it."""
    words = [ROOT / "scripts" / "uv", "run", "--no-project", "sh", "-c", "echo $UV"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    return Path(said.stdout.strip()).resolve()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second clone of this commit: other paths, other times, other rights."""
    folder = tmp_path_factory.mktemp("elsewhere") / "clone"
    script = f"umask 077 && git clone --quiet {ROOT} {folder}"
    subprocess.run(["sh", "-c", script], check=True)
    return folder


@pytest.fixture(scope="module")
def image(workshop: Workshop) -> str:
    """The quantize image of this checkout; its digest."""
    return workshop.build("quantize", ROOT)


TWICE = ["tracking", *(["quantize"] if os.environ.get("PROOFCARD_IMAGES") == "all" else [])]


@pytest.mark.parametrize("target", TWICE)
def test_the_same_commit_gives_the_same_image(workshop: Workshop, elsewhere: Path, target: str) -> None:
    here = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    revision = subprocess.run(here, capture_output=True, text=True, check=True).stdout.strip()
    if revision.endswith("-dirty"):
        pytest.skip("this checkout has changes that its clone has not: commit them first")
    assert workshop.build(target, ROOT) == workshop.build(target, elsewhere)


def test_the_labels_name_the_commit_and_the_lock(workshop: Workshop, image: str) -> None:
    labels = json.loads(workshop.run("podman", "image", "inspect", "--format", "{{json .Labels}}", image))
    lock = subprocess.run(["sha256sum", ROOT / "uv.lock"], capture_output=True, text=True, check=True).stdout
    revision = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert labels["proofcard.uv-lock.sha256"] == lock.split()[0]
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == revision.strip()
    assert labels["org.opencontainers.image.base.name"] == "localhost/base"


def test_there_is_no_compiler_and_no_installer_in_it(workshop: Workshop, image: str) -> None:
    programs = "cc gcc g++ clang ld as nvcc make uv pip"
    found = workshop.inside(image, "sh", "-c", f"for p in {programs}; do command -v $p; done; true")
    assert found == ""


def test_the_user_owns_the_volumes_and_nothing_else(workshop: Workshop, image: str) -> None:
    script = "id -u; touch /data/x /cache/x && echo written; find / -xdev -user 10001 -not -path '/proc/*'"
    said = workshop.inside(image, "sh", "-c", f"{script} 2>/dev/null; true").split()
    assert said[:2] == ["10001", "written"]
    assert {Path(path).parts[1] for path in said[2:]} <= {"data", "cache"}


@pytest.fixture(scope="module")
def by_uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint as `uv run` makes it: that of `make demo`, or one made here."""
    standing = ROOT / "runs" / "checkpoints" / "demo"
    return standing if standing.exists() else quantize(tmp_path_factory.mktemp("by-uv"))


@pytest.fixture(scope="module")
def by_container(workshop: Workshop, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint as the image makes it, its source mounted, no /tmp, no network, no rights."""
    out = tmp_path_factory.mktemp("by-container")
    out.chmod(0o777)
    mounts = ("--volume", f"{out}:/data", "--volume", f"{ROOT}/demo/model:/sources/model:ro")
    told = ("quantize", "model.path=/sources/model", "output_dir=checkpoint", "tracking=off", "hardware=cpu")
    workshop.inside(image, *told, options=("--read-only-tmpfs=false", *mounts))
    verify = ("verify", "checkpoint=checkpoint", "source=/sources/model")
    assert "\nverified\n" in workshop.inside(image, *verify, options=mounts)
    return out / "checkpoint"


def test_the_container_makes_the_bytes_of_uv_run(by_uv: Path, by_container: Path) -> None:
    ours, theirs = contents(by_uv), contents(by_container)
    said, they_said = (json.loads(files.pop("manifest.json")) for files in (ours, theirs))
    assert theirs == ours
    assert they_said["key"] == said["key"]
    for manifest in (said, they_said):  # the base's Python, and the seal over it
        del manifest["platform"]["python"], manifest["seal"]
    assert they_said == said
