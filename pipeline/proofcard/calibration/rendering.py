"""Renders chat templates in a separate process: a template is a program by the checkpoint's author.

jinja2's sandbox, in which transformers renders, keeps a template away from the machine, but does not stop it
from looping forever. Here each conversation has a limit of CPU time and memory, and a template that exceeds
it ends its own process, not ours.
"""

import ctypes
import gc
import multiprocessing
import os
import pickle
import resource
import signal
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from proofcard.calibration.rows import Conversation, UnreadableRow
from proofcard.errors import Usage, one_line

_SECONDS = 5.0  # of CPU per conversation; a typical template takes a millisecond
_MEMORY = 128 << 20  # bytes beyond what the process uses when it starts
_LONGEST = 4 << 20  # bytes of text that a template may add to its conversation
_WALL_SECONDS = 120.0  # for a machine so busy that the process hardly runs
# Some templates write the date into the system prompt: identical samples on every day need a fixed date.
_DAY = datetime(2025, 1, 1)
_GREETING = Conversation(
    ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}), "Hello\nHello"
)


class Renderer:
    """A context in which conversations become text through a tokenizer's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Nothing is started yet."""
        self._tokenizer = tokenizer

    def __enter__(self) -> "Renderer":
        import transformers.utils.chat_template_utils  # noqa: F401  # the process imports nothing itself

        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        arguments = (there, self._here, self._tokenizer, os.getpid())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.close()
        self._process.kill()
        self._process.join()

    def check(self) -> None:
        """Render a greeting. Raises Usage as `render` does."""
        with suppress(
            UnreadableRow
        ):  # the template may need a system prompt or other turns, as rows may have
            self.render(_GREETING)

    def render(self, conversation: Conversation) -> str:
        """The text of a conversation.

        Raises:
            UnreadableRow: when the template refuses the conversation.
            Usage: when the template cannot be read, or exceeds its limit of time, memory or text.
        """
        try:
            self._here.send_bytes(pickle.dumps((conversation.messages, conversation.tools)))
            if not self._here.poll(_WALL_SECONDS):
                raise self._fault(f"did not finish within {_WALL_SECONDS:.0f} s")
            reply = self._here.recv_bytes()
        except (EOFError, ConnectionError):
            self._process.join()
            raise self._fault(_cause_of_death(self._process.exitcode)) from None
        text = reply[1:].decode(errors="surrogatepass")
        if reply[:1] == _TEXT:
            return text
        if reply[:1] == _REFUSED:
            raise UnreadableRow("refused by the chat template")
        raise self._fault(text)

    def _fault(self, fault: str) -> Usage:
        model = Path(self._tokenizer.name_or_path).parent.name  # above its private copy
        return Usage(
            f"the chat template of {model} {fault}: correct it, or set calibration.chat_template=false"
        )


_TEXT, _REFUSED, _FAULT = b"t", b"r", b"f"


def _serve(there: Connection, here: Connection, tokenizer: Any, parent: int) -> None:
    """Answer requests until the parent is done, or the kernel stops one that takes too long."""
    here.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: killed when the parent ends
    if os.getppid() != parent:
        return
    gc.freeze()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _data() + _MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    while True:
        try:
            request = there.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        reply = _answer(tokenizer, request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        there.send_bytes(reply)


def _answer(tokenizer: Any, request: bytes) -> bytes:
    from jinja2 import TemplateSyntaxError

    messages, tools = pickle.loads(request)
    try:
        tokenizer.get_chat_template(None, list(tools) or None)
    except Exception as error:
        return _FAULT + f"cannot be selected ({one_line(error)[:300]})".encode()
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, tokenize=False, strftime_now=_DAY.strftime
        )
        reply = str(text).encode(errors="surrogatepass")
    except TemplateSyntaxError as error:
        return _FAULT + f"is not a valid jinja2 template ({one_line(error)[:300]})".encode()
    except MemoryError:
        return _FAULT + f"needs more than {_MEMORY >> 20} MiB of memory for one conversation".encode()
    except RecursionError:
        return _FAULT + b"recurses without end, or is nested too deeply"
    except Exception:  # from jinja2, or from what the template computes
        return _REFUSED
    if len(reply) > _LONGEST + 2 * len(request):
        return _FAULT + f"turns one short conversation into {len(reply):,} bytes of text".encode()
    return _TEXT + reply


def _data() -> int:
    """Bytes of private memory that this process has reserved."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) << 10


def _cause_of_death(status: int | None) -> str:
    if status == -signal.SIGPROF:
        return f"needs more than {_SECONDS:.0f} s of CPU for one conversation"
    if status == -signal.SIGSEGV:
        return "is nested too deeply"
    return f"exceeded its memory limit of {_MEMORY >> 20} MiB (its process ended with status {status})"
