"""The flake's outputs, evaluated with stand-ins for its inputs."""

import json
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml
from nix.flakes import Flake, needs_nix
from running import ROOT

from proofcard.help import SUMMARIES

pytestmark = needs_nix
SYSTEM = "x86_64-linux"


def test_every_output_evaluates(flake: Flake) -> None:
    said = flake.nix("flake", "check", "--no-build")
    assert said.returncode == 0, said.stderr
    outputs = json.loads(flake.nix("flake", "show", "--json").stdout)
    assert outputs["packages"][SYSTEM].keys() == {
        "default", "quantize-env", "serve-env", "vllm-env", "bench-env", "patched-modelopt", "image",
    }  # fmt: skip
    assert outputs["checks"][SYSTEM].keys() >= {
        "tests",
        "configurations",
        "patches-fixed",
        "environment-serve",
    }
    assert outputs["devShells"][SYSTEM].keys() == {"default"}
    assert outputs["formatter"][SYSTEM]["type"] == "derivation"


def test_every_command_is_an_app_with_a_description(flake: Flake) -> None:
    apps = flake.value(f"apps.{SYSTEM}", "builtins.mapAttrs (_: app: app.meta.description)")
    others = {"default", "mlflow-ui", "proofcard", "serve-vllm"}
    assert {name: apps[name] for name in apps.keys() - others - {"serve"}} == {
        name: summary[0].upper() + summary[1:] for name, summary in SUMMARIES.items() if name != "serve"
    }
    assert others | {"serve"} <= apps.keys()
    assert all(apps.values())


def test_only_a_command_that_starts_other_tools_brings_their_environments(flake: Flake) -> None:
    apps = ("quantize", "verify", "proofcard", "serve", "benchmark", "serve-vllm")
    found = environments(flake, apps)
    alone = {"proofcard-quantize-env"}
    assert found["quantize"] == found["verify"] == found["proofcard"] == alone
    assert found["serve"] == alone | {"proofcard-serve-env"}
    assert found["benchmark"] == alone | {"proofcard-serve-env", "proofcard-bench-env"}
    assert found["serve-vllm"] == alone | {"proofcard-vllm-env"}


def test_a_cuda_wheel_finds_its_siblings_and_leaves_the_driver_to_the_host(flake: Flake) -> None:
    wheels = packages(flake, "quantize")
    torch = wheels["torch"]
    assert torch["autoPatchelfIgnoreMissingDeps"] == ["libcuda.so.1", "libnvidia-ml.so.1"]
    assert "nvidia-cublas-" in torch["preFixup"] and "nvidia-cudnn-cu13-" in torch["preFixup"]
    assert "/run/opengl-driver/lib" in torch["preFixup"] and "$ORIGIN" in torch["preFixup"]
    assert "sglang" not in wheels and wheels["nvidia-modelopt"]["dontPatchShebangs"]
    assert "preFixup" not in wheels["numpy"]


def test_uv2nix_gets_the_wheel_first_that_uv_takes(flake: Flake) -> None:
    wheels = packages(flake, "serve")["soundfile"]["wheels"]
    assert "-manylinux" in wheels[0] and wheels[0].endswith("_x86_64.whl")
    assert wheels[-1].endswith("-none-any.whl")


@pytest.mark.parametrize("extra", ["quantize", "serve", "vllm", "bench"])
def test_every_source_distribution_has_a_build_system(flake: Flake, extra: str) -> None:
    sources = {
        name: package
        for name, package in packages(flake, extra).items()
        if not package["wheels"] and name != "proofcard"
    }
    assert "antlr4-python3-runtime" in sources
    assert {name for name, package in sources.items() if "nativeBuildInputs" not in package} == set()


def test_every_patch_series_is_a_derivation(flake: Flake) -> None:
    declared = yaml.safe_load(next((ROOT / "patches").glob("nvidia-modelopt-*/series.yaml")).read_text())
    checks = flake.value(f"checks.{SYSTEM}", "builtins.attrNames")
    assert {f"patches-{name.replace('_', '-')}" for name in declared["series"]} <= set(checks)


@cache
def packages(flake: Flake, extra: str) -> dict[str, dict[str, Any]]:
    """The packages of an environment, as the flake has left them."""
    said = flake.value(f"packages.{SYSTEM}.{extra}-env", "environment: environment.packages")
    return json.loads(said)  # type: ignore[no-any-return]


def environments(flake: Flake, apps: tuple[str, ...]) -> dict[str, set[str]]:
    """Names of the environments that each app needs, from the derivations that its program is made of."""
    programs = flake.value(
        f"apps.{SYSTEM}", "builtins.mapAttrs (_: app: builtins.attrNames (builtins.getContext app.program))"
    )
    found = {}
    for app in apps:
        needed = subprocess.run(
            ["nix-store", "--query", "--requisites", *programs[app]],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        names = {line.split("-", 1)[1].removesuffix(".drv") for line in needed.split()}
        found[app] = {name for name in names if name.startswith("proofcard-") and name.endswith("-env")}
    return found
