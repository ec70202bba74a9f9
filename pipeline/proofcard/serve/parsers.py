"""python parsers.py sglang|vllm: checks flags with an engine's own parser, in its own environment.

Reads JSON from standard input, a list of {"flags": [[option, value?], …], "variables": [name, …]}, and
writes {"version": …, "said": [[finding, …], …]}. A finding is {"kind", "flag", "text", "instead"}; its kind
is unknown, ambiguous, short (an abbreviation of another), invalid, deprecated, or unread (of a
variable). No GPU is needed: only the parser is run. It imports none of our code.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Finding = dict[str, str | None]
Choices = dict[str, list[str]]


def sglang() -> tuple[argparse.ArgumentParser, Choices]:
    """SGLang's parser."""
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser, {}


def vllm() -> tuple[argparse.ArgumentParser, Choices]:
    """vLLM's parser, and choices that vLLM only checks later: those of plugins and registries."""
    from vllm.platforms import current_platform

    if not current_platform.device_type:  # no GPU on this machine; use the defaults for one
        current_platform.device_type = "cuda"
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    late = {
        "--quantization": list(QUANTIZATION_METHODS),
        "--attention-backend": list(AttentionBackendEnum.__members__),
        "--tool-call-parser": list(ToolParserManager.list_registered()),
        "--reasoning-parser": list(ReasoningParserManager.list_registered()),
    }
    return make_arg_parser(FlexibleArgumentParser()), late


def findings(parser: argparse.ArgumentParser, late: Choices, words: list[str]) -> Iterator[Finding]:
    """The findings for one option and its value."""
    option = words[0]
    known = parser._option_string_actions
    name = option.split(".")[0]  # vLLM: --json.key
    if name not in known:
        longer = [each for each in known if each.startswith(name)]
        if len(longer) != 1:
            kind = "ambiguous" if longer else "unknown"
            yield _finding(
                kind,
                option,
                ", ".join(longer),
                _nearest(name, [each for each in known if each.startswith("--")]),
            )
            return
        yield _finding("short", option, "", longer[0])
        name = longer[0]
    try:
        parser.parse_known_args(words)
    except _Refused as error:
        choices = [str(choice) for choice in known[name].choices or []]
        yield _finding("invalid", option, str(error), _nearest(words[-1], choices))
        return
    if name in late and len(words) > 1 and words[1] not in late[name]:
        text = f"invalid choice: {words[1]!r} (choose from {', '.join(late[name])})"
        yield _finding("invalid", option, text, _nearest(words[1], late[name]))
    if (instead := _deprecated(parser, known[name])) is not None:
        yield _finding("deprecated", option, "", instead or None)


class _Refused(Exception):
    """The parser does not accept the option."""


def _refuse(message: str) -> None:
    raise _Refused(message.split(": ", 1)[-1])


def _deprecated(parser: argparse.ArgumentParser, action: argparse.Action) -> str | None:
    """The replacement of a deprecated option, "" if there is none, None if it is not deprecated."""
    marked = action in getattr(type(parser), "_deprecated", ()) or "Deprecated" in type(action).__name__
    marked_in_help = re.match(r"\W*deprecated", action.help or "", re.IGNORECASE)
    if not (marked or marked_in_help):
        return None
    replacement = re.search(r"[Uu]se\W+(--[\w-]+(=\w+)?)", action.help or "")
    return str(getattr(action, "new_flag", None) or (replacement.group(1) if replacement else ""))


def unread(engine: str, names: set[str]) -> set[str]:
    """Those of these variables that belong to the engine but occur in none of its files."""
    own = {name.encode() for name in names if name.startswith(f"{engine.upper()}_")}
    spec = find_spec(engine)
    folders = (spec.submodule_search_locations if spec else None) or []
    for file in (file for folder in folders for file in Path(folder).rglob("*.py")):
        if not own:
            break
        text = file.read_bytes()
        own = {name for name in own if name not in text}
    return {name.decode() for name in own}


def _finding(kind: str, flag: str, text: str, instead: str | None) -> Finding:
    return {"kind": kind, "flag": flag, "text": text, "instead": instead}


def _nearest(word: str, known: list[str]) -> str | None:
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def main() -> None:
    """Print the findings for every profile on standard input."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines print on import
    profiles: list[dict[str, Any]] = json.load(sys.stdin)
    engine = sys.argv[1]
    parser, late = {"sglang": sglang, "vllm": vllm}[engine]()
    for action in parser._actions:
        action.required = False
    parser.error = _refuse  # type: ignore[assignment,method-assign]
    dead = unread(engine, {name for profile in profiles for name in profile["variables"]})
    said = [
        [each for words in profile["flags"] for each in findings(parser, late, words)]
        + [_finding("unread", name, "", None) for name in profile["variables"] if name in dead]
        for profile in profiles
    ]
    json.dump({"version": version(engine), "said": said}, answer)
    answer.close()


if __name__ == "__main__":
    main()
