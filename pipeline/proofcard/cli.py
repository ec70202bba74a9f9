"""The console command `proofcard`. Nothing heavy is imported before it is known to be needed."""

import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module

_MODULES = {
    "analyse": "proofcard.analyse.command",
    "benchmark": "proofcard.benchmark.command",
    "compare": "proofcard.compare.command",
    "fetch": "proofcard.fetch",
    "plan": "proofcard.plan.command",
    "quantize": "proofcard.quantize.command",
    "serve": "proofcard.serve.command",
    "verify": "proofcard.verify.command",
}
"""Where the function `run(overrides) -> exit status` of each command is."""

_EXTRAS = {
    "benchmark": "processes",
    "fetch": "quantize",
    "plan": "quantize",
    "quantize": "quantize",
    "serve": "processes",
}
"""What a command needs beyond what `verify` does (`proofcard.extras`), whatever its configuration."""


def main() -> None:
    """Console entry point."""
    words = sys.argv[1:]
    command, overrides = (words[0], words[1:]) if words else ("--help", [])
    if command in _MODULES:
        _run(command, overrides)
    elif command in ("-h", "--help", "help"):
        from proofcard.help import overview

        print(overview(), end="")
    elif command in ("-V", "--version"):
        from proofcard import __version__

        print(f"proofcard {__version__}")
    else:
        print(f"proofcard: {_unknown(command)}", file=sys.stderr)
        sys.exit(2)


def _unknown(word: str) -> str:
    """What to type instead of a word that is no command."""
    from difflib import get_close_matches

    near = get_close_matches(word, _MODULES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(sorted(_MODULES))}"
    return f"unknown command {word!r}: {hint}"


def _module(command: str, overrides: list[str]) -> str:
    """The module that runs a command: sweeps and launchers of Hydra have their own."""
    swept = any(word in ("-m", "--multirun") for word in overrides)
    if command == "quantize" and (swept or any(word.startswith("hydra/launcher=") for word in overrides)):
        return "proofcard.launched"
    if command == "benchmark" and swept:
        return "proofcard.benchmark.comparison"
    return _MODULES[command]


def _run(command: str, overrides: list[str]) -> None:
    if any(word in ("-h", "--help") for word in overrides):
        from proofcard.help import TEXTS

        print(TEXTS[command], end="")
        return
    from proofcard.disk import is_full
    from proofcard.errors import Stop, Usage
    from proofcard.extras import require
    from proofcard.joining import started
    from proofcard.redact import redact

    sys.argv[1:] = overrides  # Hydra reads them there
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminate)
    try:
        if command in _EXTRAS:
            require("this command", _EXTRAS[command])
        run: Callable[[list[str]], int] = import_module(_module(command, overrides)).run
        sys.exit(run(overrides))
    except Stop as stop:
        if isinstance(stop, Usage) and not started().leads:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)  # every rank has found the same: let the leading one say it, and its end be ours
        print(f"{command}: {redact(str(stop))}", file=sys.stderr)
        sys.exit(2 if isinstance(stop, Usage) else 1)
    except Exception as error:
        if not is_full(error):
            raise
        print(f"the disk is full: make room; {_standing(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"interrupted: {_standing(stop)}", file=sys.stderr)
        sys.exit(128 + (stop.number if isinstance(stop, _Terminated) else signal.SIGINT))


class _Terminated(KeyboardInterrupt):
    """SIGTERM and SIGHUP end the work as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminate(number: int, _: object) -> None:
    raise _Terminated(number)


def _standing(error: BaseException) -> str:
    """What is left of the work, as the stage has noted on the error that ended it."""
    from proofcard.joining import started

    if not started().leads:
        return "the leading rank says what is kept"
    notes: list[str] = getattr(error, "__notes__", [])
    return notes[-1] if notes else "nothing half-written was left; the same command starts over"
