"""The images for real. `make image-check` runs this; it takes minutes and 25 GB of disk.

It shows that the same commit gives the same image, and that the demo in an image that may do nothing gives
the bytes of `uv run`. `make image-check IMAGES=all` builds every other image as well.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.workshop import Workshop, workshop
from running import ROOT, contents

pytestmark = [
    pytest.mark.skipif(
        "PROOFCARD_IMAGES" not in os.environ,
        reason="NOT CHECKED BY THIS RUN: images are built by `make image-check`",
    ),
    pytest.mark.timeout(3600),
]
OTHERS = {
    "tracking": ("mlflow", "server", "--help"),
    "bench": ("benchmark", "--help"),
    "serve": ("serve", "--help"),
    "vllm": ("serve", "--help"),
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as made:
        yield made


@pytest.fixture(scope="module")
def image(shop: Workshop) -> str:
    """The quantize image of this checkout; its digest."""
    return shop.build("quantize")


def test_the_same_commit_gives_the_same_image(shop: Workshop, image: str, tmp_path: Path) -> None:
    """From a second clone: other paths, other times, other rights."""
    if revision().endswith("-dirty"):
        pytest.skip("NOT CHECKED HERE: this checkout has changes that its clone has not: commit them first")
    clone = tmp_path / "clone"
    subprocess.run(["sh", "-c", f"umask 077 && git clone --quiet {ROOT} {clone}"], check=True)
    assert shop.build("quantize", clone) == image


def revision() -> str:
    """The commit of this checkout, as the image's label says it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("image")
def test_the_labels_name_the_commit_and_the_lock(shop: Workshop) -> None:
    inspect = ("podman", "image", "inspect", "--format", "{{json .Labels}}", "proofcard-quantize")
    labels = json.loads(shop.run(*inspect))
    lock = subprocess.run(["sha256sum", ROOT / "uv.lock"], capture_output=True, text=True, check=True).stdout
    assert labels["proofcard.uv-lock.sha256"] == lock.split()[0]
    assert labels["org.opencontainers.image.revision"] == revision()
    assert labels["org.opencontainers.image.base.name"] == "localhost/base"


@pytest.mark.usefixtures("image")
def test_there_is_no_compiler_and_no_installer_in_it(shop: Workshop) -> None:
    programs = "cc gcc g++ clang ld as nvcc make uv pip"
    found = shop.inside("quantize", "sh", "-c", f"for p in {programs}; do command -v $p; done; true")
    assert found == ""


@pytest.mark.usefixtures("image")
def test_the_user_owns_the_volumes_and_nothing_else(shop: Workshop) -> None:
    script = "id -u; touch /data/x /cache/x && echo written; find / -xdev -user 10001 -not -path '/proc/*'"
    said = shop.inside("quantize", "sh", "-c", f"{script} 2>/dev/null; true").split()
    assert said[:2] == ["10001", "written"]
    assert {Path(path).parts[1] for path in said[2:]} <= {"data", "cache"}


@pytest.fixture(scope="module")
def by_container(shop: Workshop, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint as the image makes it, its source mounted, no /tmp, no network, no rights."""
    out = tmp_path_factory.mktemp("by-container")
    out.chmod(0o777)
    mounts = ("--volume", f"{out}:/data", "--volume", f"{ROOT}/demo/model:/sources/model:ro")
    told = (
        "quantize",
        "model.path=/sources/model",
        "output_dir=checkpoint",
        "tracking=off",
        "hardware.device=cpu",
    )
    shop.inside("quantize", *told, options=("--read-only-tmpfs=false", *mounts))
    verify = ("verify", "checkpoint=checkpoint", "source=/sources/model")
    assert "\nverified (" in shop.inside("quantize", *verify, options=mounts)
    return out / "checkpoint"


def test_the_container_makes_the_bytes_of_uv_run(demo: Path, by_container: Path) -> None:
    ours, theirs = contents(demo), contents(by_container)
    said, they_said = (json.loads(files.pop("manifest.json")) for files in (ours, theirs))
    assert theirs == ours
    assert they_said["key"] == said["key"]
    for manifest in (said, they_said):  # the base's Python, and the seal over it
        del manifest["platform"]["python"], manifest["seal"]
    assert they_said["toolchain"].pop("environment").keys() == {"revision"}  # of the image
    assert they_said == said


@pytest.mark.skipif(
    os.environ.get("PROOFCARD_IMAGES") != "all",
    reason="NOT CHECKED BY THIS RUN: `make image-check IMAGES=all` builds every image (40 GB of disk)",
)
@pytest.mark.parametrize("target", OTHERS)
def test_every_other_image_builds_and_knows_its_command(shop: Workshop, target: str) -> None:
    shop.build(target)
    assert "usage: " in shop.inside(target, *OTHERS[target]).lower()
    shop.run("podman", "image", "rm", f"proofcard-{target}")
