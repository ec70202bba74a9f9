"""`nix run .#quantize -- recipe=demo` for real: its bytes are those of the same command without Nix.

With fewer samples, for both.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nix.flakes import INPUTS, Flake, needs_nix
from running import contents
from several import small

from proofcard import manifest

pytestmark = needs_nix


@pytest.fixture(scope="module")
def made(flake: Flake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's checkpoint, made by the flake's app; the store is as it was when the tests are over."""
    cwd = tmp_path_factory.mktemp("nix")
    command, *overrides = small()[1:]
    said = flake.nix("run", output=command, after=("--", "recipe=demo", *overrides), cwd=cwd)
    assert said.returncode == 0, said.stderr
    assert "checkpoint (made)" in said.stdout
    assert "_bundle/demo/model" in said.stdout  # the environment's own code and data, not the checkout's
    yield cwd / "checkpoint"
    flake.forget("packages.x86_64-linux.quantize-env")


def test_the_flakes_checkpoint_is_the_one_made_without_nix(made: Path, alone: dict[str, bytes]) -> None:
    theirs, ours = contents(made), alone
    assert theirs.keys() == ours.keys()
    assert {name for name in ours if theirs[name] != ours[name]} == {manifest.NAME}


def test_its_manifest_differs_in_where_the_packages_came_from_only(
    made: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / manifest.NAME).write_bytes(alone[manifest.NAME])
    theirs, ours = manifest.read(made).values(), manifest.read(tmp_path).values()
    environment = theirs["toolchain"].pop("environment")
    del theirs["seal"], ours["seal"]  # over all of it
    assert theirs == ours
    assert environment["derivation"].endswith("-proofcard-quantize-env.drv")
    assert environment["inputs"].keys() == set(INPUTS)
    assert all(given["narHash"].startswith("sha256-") for given in environment["inputs"].values())
    assert "/" not in environment["derivation"]


def test_the_flakes_verify_proves_it(flake: Flake, made: Path) -> None:
    source = flake.path / "demo/model"
    said = flake.nix(
        "run", output="verify", after=("--", "checkpoint=checkpoint", f"source={source}"), cwd=made.parent
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1].startswith("verified")


@pytest.mark.usefixtures("made")
def test_the_toolchain_room_makes_both_series_in_derivations(flake: Flake) -> None:
    said = flake.nix("build", "--no-link", output="patched-modelopt")
    assert said.returncode == 0, said.stderr
