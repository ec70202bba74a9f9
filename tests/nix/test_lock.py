"""flake.lock: the inputs that were read, at commits, with the digests of their trees."""

import base64
import json
import re

import pytest
from nix.flakes import INPUTS, Flake, needs_nix
from running import ROOT

LOCK = json.loads((ROOT / "flake.lock").read_text())
PINS = {
    "nixpkgs": (
        "d407951447dcd00442e97087bf374aad70c04cea", "sha256-8i/87eeoqiGE4yOTjwSA3Eh/ziJRQEmd/unYU+K27sk=",
    ),
    "pyproject-nix": (
        "7af23cfe91064865ecf2e835da28b45b3c6f49fd", "sha256-SvXJcAemihifkTn4BGvyE5K1FJX9bl4U8DQ5pqKvD0s=",
    ),
    "uv2nix": (
        "49dac8d206c42175b069b7c6050ba27060a21106", "sha256-uPeuFNSYO429IEiud3iJKWIpN/xrH2CANj1uYNiDxqc=",
    ),
    "build-system-pkgs": (
        "90ffdeee1a4929b231913df067448cd9803d3e07", "sha256-8SFyOdmcG6Nsh/JzlH812lTI/v+ur06fpQhj/acNn8k=",
    ),
}  # fmt: skip


def test_the_lock_has_the_schema_of_version_7() -> None:
    assert LOCK.keys() == {"nodes", "root", "version"}
    assert LOCK["version"] == 7
    assert LOCK["nodes"].keys() == {"root", *INPUTS}
    assert LOCK["nodes"]["root"] == {"inputs": {name: name for name in INPUTS}}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_pinned_to_the_commit_and_the_tree_that_were_read(name: str) -> None:
    locked = LOCK["nodes"][name]["locked"]
    assert (locked["rev"], locked["narHash"]) == PINS[name]
    assert re.fullmatch("[0-9a-f]{40}", locked["rev"])
    assert len(base64.b64decode(locked["narHash"].removeprefix("sha256-"))) == 32
    assert locked["type"] == LOCK["nodes"][name]["original"]["type"] == "github"
    assert isinstance(locked["lastModified"], int)


def test_every_input_follows_the_one_nixpkgs() -> None:
    for name in INPUTS:
        for inner, follows in LOCK["nodes"][name].get("inputs", {}).items():
            assert follows == [inner]


@needs_nix
def test_nix_finds_nothing_to_change_in_the_lock(flake: Flake) -> None:
    said = flake.locked()
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["locks"] == LOCK
