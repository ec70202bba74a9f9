"""A profile's flags, checked by the parser of the engine that is installed, before anything is started."""

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
    """What the engine's parser says of a profile; remembered in `work_dir/serve/flags`.

    Raises:
        Usage: when the engine's environment is not installed.
        Stop: when the engine cannot even be imported there.
    """
    if serving.engine == "transformers":
        return []
    python = program(EXTRA[serving.engine], "python")
    known = _remembered(serving, python, work_dir / "serve" / "flags")
    if known is not None and known.exists():
        said = json.loads(known.read_text(encoding="utf-8"))
    else:
        console.print(f"asking {serving.engine} whether it knows these flags", soft_wrap=True)
        said = ask(serving.engine, [serving])
        if known is not None:
            _remember(known, said)
    return [_sentence(f"{serving.engine} {said['version']}", each) for each in said["said"][0]]


def ask(engine: str, profiles: list[Serving]) -> dict[str, Any]:
    """What the engine's own parser says of several profiles, in one process: see `parsers`.

    Raises:
        Usage: when the engine's environment is not installed.
        Stop: when the engine cannot be imported there.
    """
    asked = [
        {"flags": [options({name: value}) for name, value in profile.flags.items() if options({name: value})],
         "variables": list(profile.environment)}
        for profile in profiles
    ]  # fmt: skip
    python = program(EXTRA[engine], "python")
    try:
        done = subprocess.run(
            [python, "-P", parsers.__file__, engine],
            input=json.dumps(asked), capture_output=True, text=True, timeout=_LONGEST_S, check=False,
            env=children.environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Stop(f"{engine} could not be imported in {_LONGEST_S:.0f} s: try {python} by hand") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Stop(f"{engine} cannot be imported by {python}: {last}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _sentence(engine: str, said: dict[str, Any]) -> Finding:
    flag, text, instead = said["flag"], said["text"], said["instead"]
    meant = f": did you mean {instead}?" if instead else ""
    match said["kind"]:
        case "unknown":
            return refusal(f"{engine} has no {flag}{meant or ': leave it out'}")
        case "ambiguous":
            return refusal(f"{flag} may be any of {text} in {engine}: write one of them out")
        case "invalid":
            return refusal(
                f"{engine} does not take {flag}: " + (text.split(" (choose")[0] + meant if instead else text)
            )
        case "short":
            return warning(f"{engine} takes {flag} for {instead}, by its first letters: write {instead}")
        case "deprecated":
            return warning(f"{flag} is deprecated in {engine}" + (f": write {instead}" if instead else ""))
        case _:
            return warning(f"nothing in {engine} reads the variable {flag}: leave it out")


def _remembered(serving: Serving, python: Path, folder: Path) -> Path | None:
    """Where the answer for this profile of this engine is kept; None when its version cannot be told."""
    packages = list(python.parent.parent.glob(f"lib/python3*/site-packages/{serving.engine}-*.dist-info"))
    if len(packages) != 1:
        return None
    record = packages[0] / "RECORD"
    asked = {
        "engine": record.read_text(encoding="utf-8"),
        "flags": serving.flags,
        "variables": sorted(serving.environment),
        "script": Path(parsers.__file__).read_text(encoding="utf-8"),
    }
    return folder / f"{sha256_json(asked)}.json"


def _remember(known: Path, said: dict[str, Any]) -> None:
    known.parent.mkdir(parents=True, exist_ok=True)
    fresh = known.with_name(f".{known.name}.{os.getpid()}")
    fresh.write_text(json.dumps(said), encoding="utf-8")
    fresh.replace(known)
