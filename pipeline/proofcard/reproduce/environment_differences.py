"""How the environment differs from the recorded one, what that may change, and how to restore it."""

import os
import shlex
from dataclasses import dataclass
from typing import Any

from proofcard.config.compose import flatten
from proofcard.digest import sha256_json
from proofcard.documents.reproduction import Difference, Effect
from proofcard.fingerprint import lock_digest
from proofcard.reproduce import commits
from proofcard.reproduce.recorded import Recorded

_GPU = ("gpu", "compute_capability", "cuda", "cublas", "cudnn", "driver")


@dataclass(frozen=True)
class Here:
    """What this machine would write into a manifest: toolchain, numeric platform, origin of the samples."""

    toolchain: dict[str, Any]
    platform: dict[str, Any]
    samples: dict[str, Any]


def differences(recorded: dict[str, Any], here: Here) -> list[Difference]:
    """Everything that differs from the record, the most serious first: bytes, samples, calibration, nothing.

    `recorded` is a manifest's body. Sample sets are compared by their origin: a set that is reused as
    it was sealed has no differences.
    """
    toolchain = recorded["toolchain"]
    changes = _parts("patches", toolchain.get("patches"), here.toolchain["patches"], "any byte")
    changes += _parts("packages", toolchain.get("packages"), here.toolchain["packages"], "any byte")
    changes += _parts("code", toolchain.get("code"), here.toolchain["code"], "any byte")
    changes += _samples(recorded["inputs"]["samples"], here.samples)
    changes += _parts("platform", recorded["platform"], here.platform, "calibration")
    changes += _parts("lock", toolchain.get("lock"), here.toolchain["lock"], "nothing by itself")
    surroundings = [side.get("environment") for side in (toolchain, here.toolchain)]
    return changes + _parts("environment", surroundings[0], surroundings[1], "nothing by itself")


def _samples(recorded: dict[str, Any], here: dict[str, Any]) -> list[Difference]:
    """Datasets by digest, and the packages and code that drew the rows, if the manifest records them."""
    changes = []
    datasets = (recorded.get("inputs") or {}).get("datasets", {})
    for name, one in here["inputs"]["datasets"].items():
        if name in datasets and datasets[name].get("digest") != one["digest"]:
            changes.append(
                _difference(f"dataset {name}", datasets[name].get("digest"), one["digest"], "samples")
            )
    for part in ("packages", "code"):
        value = (recorded.get("toolchain") or {}).get(part)
        if value is not None:
            changes += _parts(f"samples {part}", value, here["toolchain"][part], "samples")
    return changes


def _parts(what: str, recorded: Any, here: Any, effect: Effect) -> list[Difference]:
    """One difference for each value below `what` that is another, or on one side only."""
    ours, theirs = flatten(here, what), flatten(recorded, what)
    names = [*theirs, *(name for name in ours if name not in theirs)]
    return [
        _difference(name, theirs.get(name), ours.get(name), effect)
        for name in names
        if theirs.get(name) != ours.get(name)
    ]


def _difference(what: str, recorded: Any, here: Any, effect: Effect) -> Difference:
    return Difference(what=what, recorded=recorded, here=here, may_change=effect)


def advice(recorded: Recorded, changes: list[Difference], here: Here) -> list[str]:
    """How to restore the recorded environment: commands, and what else is needed. Reads git's history."""
    names = [difference.what for difference in changes]
    toolchain, platform = recorded.body["toolchain"], recorded.body["platform"]
    lines = []
    if any(name.startswith(("code", "lock", "packages", "patches", "samples ")) for name in names):
        lines += _program(recorded, toolchain)
    elif "platform.python" in names or "platform.torch" in names:
        lines.append(_sync(platform))
    if _named(names, "environment") and isinstance(toolchain.get("environment"), dict):
        lines += _surrounding(toolchain["environment"])
    if "platform.device" in names or any(name == f"platform.{part}" for name in names for part in _GPU):
        lines.append(_gpu(platform))
    if _named(names, "platform.instructions") or _named(names, "platform.cpu_capability"):
        lines.append(_processor(platform, here.platform))
    if "platform.threads" in names:
        lines.append(f"threads={platform.get('threads')} on a machine with as many cores")
    return lines


def _named(names: list[str], start: str) -> bool:
    return any(name == start or name.startswith(f"{start}.") for name in names)


def _program(recorded: Recorded, toolchain: dict[str, Any]) -> list[str]:
    """The recorded program with its locked packages, as far as its commit is known."""
    sync = _sync(recorded.body["platform"])
    commit, known = _commit(recorded, toolchain)
    if commit is not None:
        name = f"proofcard-{commit[:12]}"
        return [f"git worktree add ../{name} {shlex.quote(commit)} && cd ../{name} && {sync}{known}"]
    if toolchain.get("lock") == lock_digest():
        return [
            f"the commit of this program with the recorded code (its run in MLflow names it), then: {sync}"
        ]
    return [f"the commit of this program whose uv.lock has the sha256 {toolchain.get('lock')}, then: {sync}"]


def _commit(recorded: Recorded, toolchain: dict[str, Any]) -> tuple[str | None, str]:
    """The program's commit, and in a shell's comment how it is known."""
    if recorded.commit is not None:
        return recorded.commit, ""
    engine = (recorded.body["config"].get("engine") or {}).get("name")
    code, lock = toolchain.get("code"), toolchain.get("lock")
    commit = commits.with_code(code, engine) if isinstance(code, str) and engine is not None else None
    if commit is not None:
        return commit, "   # the last one with the recorded code"
    if isinstance(lock, str) and lock != lock_digest():
        return commits.with_lock(lock), "   # the last one with the recorded uv.lock"
    return None, ""


def _sync(platform: dict[str, Any]) -> str:
    python = platform.get("python")
    chosen = f" --python {shlex.quote(python)}" if isinstance(python, str) else ""
    return f"uv sync --frozen --extra quantize --extra tracking{chosen}"


def _surrounding(environment: dict[str, Any]) -> list[str]:
    """The flake or the image that the record was made in."""
    if isinstance(revision := environment.get("revision"), str):
        commit = shlex.quote(revision.removesuffix("-dirty"))
        return [
            f"git checkout {commit} && make image TARGET=quantize && docker run --rm -v $PWD:/data "
            "proofcard-quantize reproduce …"
        ]
    inputs = environment.get("inputs")
    if not isinstance(inputs, dict):
        return []
    pins = [
        f"--override-input {shlex.quote(name)} {shlex.quote(_FLAKES[name] + '/' + one['rev'])}"
        for name, one in inputs.items()
        if name in _FLAKES and isinstance(one, dict) and isinstance(one.get("rev"), str)
    ]
    return [" ".join(["nix run .#reproduce", *pins, "-- …"])]


_FLAKES = {
    "nixpkgs": "github:nixos/nixpkgs",
    "pyproject-nix": "github:pyproject-nix/pyproject.nix",
    "uv2nix": "github:pyproject-nix/uv2nix",
    "build-system-pkgs": "github:pyproject-nix/build-system-pkgs",
}
"""Where the flake's inputs are from, by name."""


def _gpu(platform: dict[str, Any]) -> str:
    if platform.get("device") != "cuda":
        return "device=cpu: it was made without a GPU"
    gpu, driver = platform.get("gpu", "the recorded GPU"), platform.get("driver", "unknown")
    return f"a machine with {gpu}, driver {driver}"


def _processor(recorded: dict[str, Any], here: dict[str, Any]) -> str:
    """Advice on vector instructions: fewer can be requested, more cannot."""
    wanted, ours = (_instructions(side) for side in (recorded, here))
    if missing := sorted(wanted - ours):
        return f"a processor with {', '.join(missing[:6])}"
    if limits := [name for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ]:
        return f"unset {' '.join(limits)}: it keeps torch from this processor's vector instructions"
    level = str(recorded.get("cpu_capability", "")).lower()
    if level not in ("default", "avx2", "avx512"):
        return "a processor with the recorded vector instructions and no others"
    limit = {"default": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE"}[level]
    return (
        f"ATEN_CPU_CAPABILITY={level} ONEDNN_MAX_CPU_ISA={limit} before the command keeps to the recorded "
        "vector instructions, as far as torch and oneDNN ask for them"
    )


def _instructions(platform: dict[str, Any]) -> set[str]:
    names = platform.get("instructions")
    return {str(one) for one in names} if isinstance(names, list) else set()


def identity(value: Any) -> str:
    """A short text for a value in a table: lists and objects by their digest."""
    if isinstance(value, list | dict):
        return sha256_json(value)[:12]
    return "–" if value is None else str(value)
