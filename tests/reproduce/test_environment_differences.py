"""What differs from the recorded environment, and the command that gets it."""

import copy
from typing import Any

import pytest

from proofcard.fingerprint import lock_digest
from proofcard.reproduce import environment_differences
from proofcard.reproduce.environment_differences import Here
from proofcard.reproduce.recorded import Recorded

PLATFORM = {
    "device": "cpu", "machine": "x86_64", "python": "3.12.3", "torch": "2.11.0", "cpu_capability": "AVX512",
    "instructions": ["amx_bf16", "avx2", "avx512f"], "threads": 4,
}  # fmt: skip


@pytest.fixture
def body() -> dict[str, Any]:
    samples = {
        "key": "a" * 64,
        "inputs": {"datasets": {"texts": {"digest": "d" * 64}}},
        "toolchain": {"packages": {"datasets": "4.0"}, "code": "c" * 64},
    }
    return {
        "key": "b" * 64,
        "config": {"engine": {"name": "layerwise"}},
        "inputs": {"samples": samples},
        "toolchain": {
            "patches": {"series": "fixed", "digest": "e" * 16},
            "packages": {"torch": "2.11.0"},
            "code": "f" * 64,
            "lock": lock_digest(),
        },
        "platform": dict(PLATFORM),
    }


@pytest.fixture
def here(body: dict[str, Any]) -> Here:
    own = copy.deepcopy(body)
    return Here(toolchain=own["toolchain"], platform=own["platform"], samples=own["inputs"]["samples"])


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a wheel."""
    monkeypatch.setattr("proofcard.reproduce.commits._touching", lambda path: [])


def names(body: dict[str, Any], here: Here) -> dict[str, str]:
    return {one.what: one.may_change for one in environment_differences.differences(body, here)}


def advice(body: dict[str, Any], here: Here, **more: Any) -> str:
    record = Recorded(body, **more)
    return "\n".join(
        environment_differences.advice(record, environment_differences.differences(body, here), here)
    )


def test_the_recorded_environment_has_no_difference(body: dict[str, Any], here: Here) -> None:
    assert names(body, here) == {}
    assert advice(body, here) == ""


def test_every_part_that_differs_is_named_with_what_it_may_change(body: dict[str, Any], here: Here) -> None:
    here.toolchain["packages"]["torch"] = "2.12.0"
    here.toolchain["patches"]["series"] = "none"
    here.toolchain["code"] = "0" * 64
    here.toolchain["lock"] = "0" * 64
    here.platform["threads"] = 8
    here.samples["inputs"]["datasets"]["texts"]["digest"] = "0" * 64
    here.samples["toolchain"]["packages"]["datasets"] = "5.0"
    found = names(body, here)
    assert found == {
        "patches.series": "any byte",
        "packages.torch": "any byte",
        "code": "any byte",
        "dataset texts": "samples",
        "samples packages.datasets": "samples",
        "platform.threads": "calibration",
        "lock": "nothing by itself",
    }


def test_a_package_on_one_side_only_differs(body: dict[str, Any], here: Here) -> None:
    here.toolchain["packages"]["numba"] = "0.65"
    del body["inputs"]["samples"]["toolchain"], body["inputs"]["samples"]["inputs"]  # an earlier manifest
    [one] = environment_differences.differences(body, here)
    assert (one.what, one.recorded, one.here) == ("packages.numba", None, "0.65")


def test_the_commit_of_an_mlflow_run_is_checked_out_with_its_lock(body: dict[str, Any], here: Here) -> None:
    here.toolchain["code"] = "0" * 64
    said = advice(body, here, commit="1" * 40)
    assert f"git worktree add ../proofcard-{'1' * 12} {'1' * 40}" in said
    assert "uv sync --frozen --extra quantize --extra tracking --python 3.12.3" in said


def test_an_unknown_lock_is_named_by_its_digest(body: dict[str, Any], here: Here) -> None:
    body["toolchain"]["lock"] = "7" * 64
    assert "7" * 64 in advice(body, here)


def test_another_python_is_one_command(body: dict[str, Any], here: Here) -> None:
    here.platform["python"] = "3.11.7"
    assert advice(body, here) == "uv sync --frozen --extra quantize --extra tracking --python 3.12.3"


def test_flake_and_image_have_commands(body: dict[str, Any], here: Here) -> None:
    body["toolchain"]["environment"] = {
        "inputs": {"nixpkgs": {"rev": "2" * 40, "narHash": "x"}},
        "derivation": "d",
    }
    assert f"nix run .#reproduce --override-input nixpkgs github:nixos/nixpkgs/{'2' * 40}" in advice(
        body, here
    )
    body["toolchain"]["environment"] = {"revision": "3" * 40}
    assert f"git checkout {'3' * 40} && make image TARGET=quantize && docker run" in advice(body, here)


def test_what_a_manifest_says_is_quoted_for_the_shell(body: dict[str, Any], here: Here) -> None:
    body["toolchain"]["environment"] = {"revision": "x; rm -rf ~"}
    body["platform"]["python"] = "3; rm -rf ~"
    here.toolchain["code"] = "0" * 64
    for line in advice(body, here).splitlines():
        assert "; rm" not in line.replace("'x; rm -rf ~'", "").replace("'3; rm -rf ~'", "")


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ({"instructions": ["avx2", "avx512f"]}, "a processor with amx_bf16"),
        ({"device": "cuda", "gpu": "H200"}, "device=cpu: it was made without a GPU"),
        ({"threads": 2}, "threads=4 on a machine with as many cores"),
    ],
)
def test_what_no_command_gives_is_described(
    body: dict[str, Any], here: Here, platform: dict[str, Any], said: str
) -> None:
    here.platform.update(platform)
    assert said in advice(body, here)


def test_fewer_vector_instructions_can_be_asked_for(
    body: dict[str, Any], here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    body["platform"] |= {"cpu_capability": "AVX2", "instructions": ["avx2"]}
    assert "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 before" in advice(body, here)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert "unset ATEN_CPU_CAPABILITY" in advice(body, here)


def test_an_image_names_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    from proofcard.fingerprint import environment

    monkeypatch.delenv("PROOFCARD_FLAKE_DERIVATION", raising=False)
    monkeypatch.setenv("PROOFCARD_REVISION", "4" * 40)
    assert environment() == {"environment": {"revision": "4" * 40}}
    monkeypatch.setenv("PROOFCARD_REVISION", "unknown")
    assert environment() == {}
