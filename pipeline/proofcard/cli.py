"""The console command `proofcard`. Heavy imports happen only when they are needed."""

import sys

_MODULES = {
    "agentic": "proofcard.agentic.command",
    "analyse": "proofcard.analyse.command",
    "audit": "proofcard.audit.command",
    "benchmark": "proofcard.benchmark.command",
    "card": "proofcard.card.command",
    "compare": "proofcard.compare.command",
    "evaluate": "proofcard.evaluate.command",
    "fetch": "proofcard.fetch.command",
    "plan": "proofcard.plan.command",
    "publish": "proofcard.publish.command",
    "quantize": "proofcard.quantize.command",
    "repeat": "proofcard.repeat.command",
    "reproduce": "proofcard.reproduce.command",
    "run": "proofcard.run.command",
    "serve": "proofcard.serve.command",
    "sign": "proofcard.sign.command",
    "tasks": "proofcard.tasks.command",
    "verify": "proofcard.verify.command",
}
"""The module with the function `run(overrides) -> exit status` of each command."""

_FAILED = {"repeat": 2, "reproduce": 2, "tasks": 2, "verify": 2}
"""Exit status of a failure where it is not 1: there 1 is a finding, that a checkpoint differs or is worse."""

_JSON = "--json"
"""Prints a command's document on standard output, and tables on standard error."""


def main() -> None:
    """Console entry point."""
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:  # while it was imported; `command.run` sees to itself
        print("interrupted: nothing was started", file=sys.stderr)
        sys.exit(130)


def _main(words: list[str]) -> None:
    command, overrides = (words[0], words[1:]) if words else ("--help", [])
    if command in _MODULES:
        _run(command, overrides)
    elif command in ("-h", "--help", "help"):
        from proofcard.help import overview

        print(overview(), end="")
    elif command in ("-V", "--version"):
        _version()
    else:
        print(f"proofcard: {_unknown(command)}", file=sys.stderr)
        sys.exit(2)


def _version() -> None:
    from proofcard import __version__

    print(f"proofcard {__version__}")


def _unknown(word: str) -> str:
    """A message for an unknown command, with a suggestion."""
    from difflib import get_close_matches

    near = get_close_matches(word, _MODULES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(sorted(_MODULES))}"
    return f"unknown command {word[:80]!a}: {hint}"


def _module(command: str, overrides: list[str]) -> str:
    """The module that runs a command: Hydra's sweeps and launchers have their own."""
    swept = any(word in ("-m", "--multirun") for word in overrides)
    if command == "quantize" and (swept or any(word.startswith("hydra/launcher=") for word in overrides)):
        return "proofcard.quantize.launched"
    if command == "benchmark" and swept:
        return "proofcard.benchmark.comparison"
    return _MODULES[command]


def _run(command: str, overrides: list[str]) -> None:
    if any(word in ("-h", "--help") for word in overrides):
        from proofcard.help import TEXTS

        print(TEXTS[command], end="")
        return
    if any(word in ("-V", "--version") for word in overrides):
        _version()
        return
    as_json = _JSON in overrides
    overrides, configured = _configured([word for word in overrides if word != _JSON])
    from proofcard.command import run

    run(command, _module(command, overrides), overrides, _FAILED.get(command, 1), as_json, configured)


def _configured(words: list[str]) -> tuple[list[str], str | None]:
    """The words without Hydra's `--cfg job`, and what stood behind `--cfg`."""
    for place, word in enumerate(words):
        flag, equals, what = word.partition("=")
        if flag in ("--cfg", "-c"):
            if equals:
                return words[:place] + words[place + 1 :], what
            return words[:place] + words[place + 2 :], "".join(words[place + 1 : place + 2])
    return words, None
