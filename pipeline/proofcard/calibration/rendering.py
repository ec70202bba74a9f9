"""Chat templates in a process of their own: a template is a program of whoever made the checkpoint.

jinja2's sandbox, in which transformers renders, keeps a template from the machine, not from working without
end. Here each conversation has so many seconds of CPU and so much memory, and a template that wants more ends
its process, not ours.
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

from proofcard.calibration.rows import Conversation, OtherShape
from proofcard.errors import Usage, one_line

_SECONDS = 5.0  # of CPU for a conversation; a usual template takes a millisecond
_MEMORY = 128 << 20  # bytes beyond what the process has when it starts
_LONGEST = 4 << 20  # bytes of text that a template may add to those of its conversation
_WALL_SECONDS = 120.0  # on a machine so busy that the process hardly runs
# Some templates write the day into the system prompt: the same samples on every day need one fixed day.
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
        with suppress(OtherShape):  # it may want a system prompt, or other turns: the rows will tell
            self.render(_GREETING)

    def render(self, conversation: Conversation) -> str:
        """The text of a conversation.

        Raises:
            OtherShape: when the template refuses the conversation.
            Usage: when there is no template that can be read, or it takes more time, memory or text than any
                template has use for.
        """
        try:
            self._here.send_bytes(pickle.dumps((conversation.messages, conversation.tools)))
            if not self._here.poll(_WALL_SECONDS):
                raise self._fault(f"has not ended after {_WALL_SECONDS:.0f} s")
            reply = self._here.recv_bytes()
        except (EOFError, ConnectionError):
            self._process.join()
            raise self._fault(_ending(self._process.exitcode)) from None
        text = reply[1:].decode(errors="surrogatepass")
        if reply[:1] == _TEXT:
            return text
        if reply[:1] == _REFUSED:
            raise OtherShape("refused by the chat template")
        raise self._fault(text)

    def _fault(self, what: str) -> Usage:
        model = Path(self._tokenizer.name_or_path).parent.name  # above its private copy
        return Usage(
            f"the chat template of {model} {what}: correct it, or set calibration.chat_template=false"
        )


_TEXT, _REFUSED, _FAULT = b"t", b"r", b"f"


def _serve(there: Connection, here: Connection, tokenizer: Any, parent: int) -> None:
    """Answer until nobody asks any more, or the kernel ends a conversation that takes too long."""
    here.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whatever ends the parent ends this
    if os.getppid() != parent:
        return
    gc.freeze()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _data() + _MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    while True:
        try:
            asked = there.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        reply = _answer(tokenizer, asked)
        signal.setitimer(signal.ITIMER_PROF, 0)
        there.send_bytes(reply)


def _answer(tokenizer: Any, asked: bytes) -> bytes:
    from jinja2 import TemplateSyntaxError

    messages, tools = pickle.loads(asked)
    try:
        tokenizer.get_chat_template(None, list(tools) or None)
    except Exception as error:
        return _FAULT + f"cannot be chosen ({one_line(error)[:300]})".encode()
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, tokenize=False, strftime_now=_DAY.strftime
        )
        reply = str(text).encode(errors="surrogatepass")
    except TemplateSyntaxError as error:
        return _FAULT + f"is no template that jinja2 can read ({one_line(error)[:300]})".encode()
    except MemoryError:
        return _FAULT + f"takes more than {_MEMORY >> 20} MiB of memory for one conversation".encode()
    except RecursionError:
        return _FAULT + b"calls itself without end, or is nested too deeply"
    except Exception:  # jinja2's own, and those of what the template computes
        return _REFUSED
    if len(reply) > _LONGEST + 2 * len(asked):
        return _FAULT + f"makes {len(reply):,} bytes of text of one short conversation".encode()
    return _TEXT + reply


def _data() -> int:
    """Bytes of private memory that this process has reserved."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) << 10


def _ending(status: int | None) -> str:
    if status == -signal.SIGPROF:
        return f"works for more than {_SECONDS:.0f} s on one conversation"
    if status == -signal.SIGSEGV:
        return "is nested too deeply"
    return f"takes more memory than it may have, {_MEMORY >> 20} MiB (its process ended with status {status})"
