"""Checks a profile's flags with the installed engine's own parser, before anything is started."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from proofcard import children
from proofcard.config.serving import Serving
from proofcard.digest import sha256_json
from proofcard.environments import program
from proofcard.errors import Stop
from proofcard.progress import console
from proofcard.serve import parsers
from proofcard.serve.findings import Finding, refusal, warning
from proofcard.serve.launch import EXTRA, options

_LONGEST_S = 1200.0  # importing an engine takes 20 s to 60 s, more on a busy machine


def check(serving: Serving, work_dir: Path) -> list[Finding]:
    """The findings of the engine's parser for a profile, cached in `work_dir/serve/flags`.

    Raises:
        Usage: when the engine's environment is not installed.
        Stop: when the engine cannot even be imported there.
    """
    if serving.engine == "transformers":
        return []
    python = program(EXTRA[serving.engine], "python")
    cached = _remembered(serving, python, work_dir / "serve" / "flags")
    if cached is not None and cached.exists():
        result = json.loads(cached.read_text(encoding="utf-8"))
    else:
        console.print(f"checking these flags with {serving.engine}", soft_wrap=True)
        result = ask(serving.engine, [serving])
        if cached is not None:
            _remember(cached, result)
    return [_sentence(f"{serving.engine} {result['version']}", each) for each in result["said"][0]]


def ask(engine: str, profiles: list[Serving]) -> dict[str, Any]:
    """The findings of the engine's own parser for several profiles, in one process: see `parsers`.

    Raises:
        Usage: when the engine's environment is not installed.
        Stop: when the engine cannot be imported there.
    """
    order = [
        {"flags": [options({name: value}) for name, value in profile.flags.items() if options({name: value})],
         "variables": list(profile.environment)}
        for profile in profiles
    ]  # fmt: skip
    python = program(EXTRA[engine], "python")
    try:
        done = subprocess.run(
            [python, "-P", parsers.__file__, engine],
            input=json.dumps(order), capture_output=True, text=True, timeout=_LONGEST_S, check=False,
            env=children.environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Stop(
            f"{engine} could not be imported within {_LONGEST_S:.0f} s: try {python} by hand"
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Stop(f"{engine} cannot be imported by {python}: {last}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _sentence(engine: str, result: dict[str, Any]) -> Finding:
    flag, text, replacement = result["flag"], result["text"], result["instead"]
    meant = f": did you mean {replacement}?" if replacement else ""
    match result["kind"]:
        case "unknown":
            return refusal("flag_unknown", f"{engine} has no {flag}{meant or ': leave it out'}")
        case "ambiguous":
            return refusal(
                "flag_ambiguous",
                f"{flag} is ambiguous in {engine}, it matches {text}: write one of them in full",
            )
        case "invalid":
            return refusal(
                "flag_invalid",
                f"{engine} does not accept {flag}: "
                + (text.split(" (choose")[0] + meant if replacement else text),
            )
        case "short":
            return warning(
                "flag_abbreviated",
                f"{engine} reads {flag} as an abbreviation of {replacement}: write {replacement}",
            )
        case "deprecated":
            return warning(
                "flag_deprecated",
                f"{flag} is deprecated in {engine}" + (f": write {replacement}" if replacement else ""),
            )
        case _:
            return warning("variable_unread", f"nothing in {engine} reads the variable {flag}: leave it out")


def _remembered(serving: Serving, python: Path, folder: Path) -> Path | None:
    """The cache file for this profile and engine; None if the engine's version is unknown."""
    packages = list(python.parent.parent.glob(f"lib/python3*/site-packages/{serving.engine}-*.dist-info"))
    if len(packages) != 1:
        return None
    record = packages[0] / "RECORD"
    order = {
        "engine": record.read_text(encoding="utf-8"),
        "flags": serving.flags,
        "variables": sorted(serving.environment),
        "script": Path(parsers.__file__).read_text(encoding="utf-8"),
    }
    return folder / f"{sha256_json(order)}.json"


def _remember(cached: Path, result: dict[str, Any]) -> None:
    cached.parent.mkdir(parents=True, exist_ok=True)
    fresh = cached.with_name(f".{cached.name}.{os.getpid()}")
    fresh.write_text(json.dumps(result), encoding="utf-8")
    fresh.replace(cached)
