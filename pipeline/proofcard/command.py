"""Runs a console command from start to exit status: standard files, signals, and the final message.

Exit status 2: nothing was started. 1: it failed (`verify`: 2, since its 1 means that a checkpoint differs).
"""

import contextlib
import gc
import getpass
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from proofcard import garbage, interrupts
from proofcard.children import secure_this_process
from proofcard.command_line import understood
from proofcard.disk import check_writable
from proofcard.errors import Stop, Usage, before_work, explained, is_full, one_line
from proofcard.extras import NEEDS, require
from proofcard.joining import started
from proofcard.redact import redact
from proofcard.scratch import private_folder
from proofcard.screen import ask_for_json, indented

_NARROWEST, _WIDEST = 40, 1000  # columns


def run(
    command: str,
    module: str,
    words: list[str],
    failed: int = 1,
    as_json: bool = False,
    configured: str | None = None,
) -> NoReturn:
    """Call `run` of `module` with the words, and end the process with the exit status that follows.

    `as_json` reserves standard output for the command's document. `configured` is what --cfg asks for
    instead of a run.
    """
    if as_json:
        ask_for_json()
    garbage.look_seldom()
    secure_this_process()
    _standard_files()
    interrupts.listen()
    try:
        try:
            with before_work():
                _surroundings()
            alone = started().count == 1  # ranks find a missing input together, once they have joined
            words = understood(command, words, inputs=configured is None and alone)
            sys.argv[1:] = words  # Hydra and the tracked run read them there
            status = _work(command, module, configured)(words)
            sys.stdout.flush()  # write errors must be known before the exit status
        finally:
            interrupts.over()
    except Stop as stop:
        if isinstance(stop, Usage) and not started().leads:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)  # every rank has the same error: let the leading one report it first
        status = 2 if isinstance(stop, Usage) else failed
        _say(f"{command}: {indented('; '.join([redact(str(stop)), *_notes(stop)[-1:]]))}")
    except KeyboardInterrupt as stop:
        status = 128 + (stop.number if isinstance(stop, interrupts.Interrupted) else signal.SIGINT)
        _say(f"interrupted: {_standing(stop)}")
    except Exception as error:
        status = failed
        _say(f"{command}: {indented(redact(_failure(command, error, words)))}")
    with contextlib.suppress(OSError):  # it has been said, where it is what failed
        sys.stdout.flush()
    gc.freeze()  # or the interpreter looks through all that torch has imported, for 2 s, before it ends
    sys.exit(status)


def _work(command: str, module: str, configured: str | None) -> Callable[[list[str]], int]:
    """What is run with the words, after checking that its dependencies are there."""
    if configured is not None:
        from proofcard.config.printing import show

        return partial(show, command, configured)
    if command in NEEDS:
        require("this command", NEEDS[command])
    work: Callable[[list[str]], int] = import_module(module).run
    return work


def _failure(command: str, error: Exception, words: list[str]) -> str:
    """The message for an exception that has none for users."""
    if is_full(error):
        return f"{_where_full(error)}; {_standing(error)}"
    if isinstance(error, OSError):
        return "; ".join([explained(error), *_notes(error)[-1:]])
    if isinstance(error, MemoryError):
        return f"not enough memory: stop other programs, or use a larger machine; {_standing(error)}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return "; ".join([f"the GPU ran out of memory: {one_line(error)[:200]}", *_notes(error)[-1:]])
    what = f"{type(error).__name__}: {one_line(error)[:200]}"
    return f"this is a bug of proofcard ({what}): please report it {_kept_traceback(command, error, words)}"


def _where_full(error: Exception) -> str:
    sentence = explained(error)
    known = "the disk is full" in sentence or "quota" in sentence
    return sentence if known else "the disk is full: free some space"


def _kept_traceback(command: str, error: Exception, words: list[str]) -> str:
    """Save the traceback; returns the end of the sentence that says where."""
    text = redact("".join(traceback.format_exception(error)))
    if os.environ.get(interrupts.DEBUG):
        _say(text)
    chosen = [word.removeprefix("work_dir=") for word in words if word.startswith("work_dir=")]
    work_dir = Path([*chosen[-1:], "runs"][0])
    try:
        if work_dir.is_dir():
            path = work_dir / "errors" / f"{command}-{os.getpid()}.txt"
            path.parent.mkdir(exist_ok=True)
        else:
            handle, name = tempfile.mkstemp(prefix=f"proofcard-{command}-", suffix=".txt")
            os.close(handle)
            path = Path(name)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return f"with the output of the same command with {interrupts.DEBUG}=1"
    return f"with {path}"


def _standing(error: BaseException) -> str:
    """What is left of the work, from the note that the stage added to the error."""
    if not started().leads:
        return "the leading rank reports what is kept"
    return (_notes(error) or ["no partial files were left; the same command starts over"])[-1]


def _notes(error: BaseException) -> list[str]:
    notes: list[str] = getattr(error, "__notes__", [])
    return notes


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _surroundings() -> None:
    """Provide what libraries take for granted, if it is missing.

    Raises:
        Usage: when the working directory was removed.
    """
    try:
        Path.cwd()
    except OSError:
        raise Usage("the working directory was removed: change to one that exists (cd)") from None
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user need not be in /etc/passwd; torch and MLflow ask
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and none in /etc/passwd: a folder `~` would be made here
        home = Path(os.devnull, "no-home")  # what needs one is told that it cannot be written
        os.environ["HOME"] = str(home)
    if "COLUMNS" in os.environ:  # rich prints nothing at all in no columns, and fills lines of 10**9
        asked = os.environ["COLUMNS"]
        wide = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 80
        os.environ["COLUMNS"] = str(min(max(wide, _NARROWEST), _WIDEST))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        # torch runs the compiled code that it finds there, and looks below /tmp where it is not told
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_own(cache / "torchinductor"))
    if "MPLCONFIGDIR" not in os.environ and (own := _own(settings / "matplotlib")) != settings / "matplotlib":
        os.environ["MPLCONFIGDIR"] = str(own)  # matplotlib would complain at length


def _own(usual: Path) -> Path:
    """A folder in the user's home, or a temporary one if that is not writable."""
    try:
        check_writable(usual)
        return usual
    except (Stop, OSError):
        return private_folder(usual.name)


class _Standard(io.FileIO):
    """Standard output or error, which may be closed before the work is done.

    Once its reader is gone (`| head`), or it has raised an error, output is discarded.
    """

    def __init__(self, number: int, raises: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._lost, self._raises = False, raises

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._lost:
            return size
        try:
            return super().write(data) or 0
        except OSError as error:
            self._lost = True
            if self._raises and not isinstance(error, BrokenPipeError):
                error.filename = "standard output"
                raise
            return size


def _standard_files() -> None:
    """Survive writes to closed pipes, accept all characters, and keep descriptors 0 to 2 open."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        given = getattr(sys, name)
        if given is not None and _number(given) != number:
            continue  # already replaced
        encoding = given.encoding if given is not None else "utf-8"
        buffer = io.BufferedWriter(_Standard(number, raises=number == 1))
        stream = io.TextIOWrapper(
            buffer, encoding=encoding, errors="backslashreplace",
            line_buffering=given is None or given.line_buffering or number == 2,
            write_through=given is not None and given.write_through,
        )  # fmt: skip
        if given is not None:
            given.flush()
        setattr(sys, name, stream)


def _number(stream: Any) -> int | None:
    """The file's number behind a text stream, if there is one."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    with contextlib.suppress(OSError, ValueError):
        return stream.fileno()
    return None
