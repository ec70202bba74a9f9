"""Ctrl-C, SIGTERM and SIGHUP: the first ends the work in order; a second, or too long an end, at once.

Python raises KeyboardInterrupt between any two instructions of the main thread: also in a finalizer, where it
is printed and lost, and between taking a lock and the block that returns it, so that whoever wants that lock
next waits for ever. A thread that hears signals as they come, whatever the main thread is doing, has the
interrupt raised again where it was lost or came at a bad moment; and it ends the process where that did not
help.

To end at once is as safe as `kill -9`: nothing incomplete has a final name at any time, locks and private
folders are given back, and what was started ends with this process.
"""

import contextlib
import faulthandler
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

DEBUG = "PROOFCARD_DEBUG"  # if set, it is also printed where every thread was

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 60.0  # seconds from the first signal until the process is ended
_ONE = 1.0  # seconds: a terminal, a launcher and a parent may each send what the user asked once
_MOMENT, _CAREFUL = 0.01, 1.0  # seconds: between attempts to raise it elsewhere; until it is raised anywhere
_DELICATE = (
    "logging/__init__.py", "/threading.py", "/weakref.py", "/_weakrefset.py", "importlib._bootstrap>",
)  # fmt: skip
"""Files whose functions hold locks that are not given back when they are interrupted."""
_DATABASE = "/sqlalchemy/"
"""Interrupted in a call of it, a connection may be lost with its transaction: SQLite then stays locked."""
_SAFE = "nothing incomplete has a final name"


class Interrupted(KeyboardInterrupt):
    """The work was interrupted by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Listener:
    """What has been heard, and the thread that hears it."""

    def __init__(self) -> None:
        self._main = threading.main_thread()
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._number: int | None = None  # the first signal
        self._raised = self._again = self._over = self._forked = False
        self._careful_until = self._deaf_until = self._deadline = math.inf
        self._patience, self._last = _PATIENCE, lambda: None
        signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and a shell's & leave it
                signal.signal(number, self._handle)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        os.register_at_fork(after_in_child=self._after_fork)
        threading.Thread(target=self._listen, name="interrupts", daemon=True).start()

    def over(self) -> None:
        self._over = True

    def allow(self, seconds: float, last: Callable[[], None]) -> None:
        self._last = last
        self._patience = max(self._patience, seconds)
        if self._number is not None:
            self._deadline = max(self._deadline, time.monotonic() + seconds)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread: raise the first signal, at a moment at which that does no harm."""
        if self._over or self._raised:
            return
        now = time.monotonic()
        if self._careful_until == math.inf:
            self._careful_until = now + _CAREFUL
        if now < self._careful_until and not self._forked and _is_delicate(frame):
            self._raise_again()
            return
        self._raised = True
        raise Interrupted(self._number or number)

    def _lost(self, what: Any) -> None:
        """An exception that had nowhere to go."""
        if self._forked or not issubclass(what.exc_type, Interrupted):
            self._unraisable(what)
            return
        self._raised, self._careful_until = False, time.monotonic() + _CAREFUL
        self._raise_again()

    def _raise_again(self) -> None:
        self._again = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._mouth, b"\0")  # no signal's number: only wakes the thread

    def _listen(self) -> None:
        while True:
            left = self._deadline - time.monotonic()
            wait = _MOMENT if self._again else None if left == math.inf else max(0.0, left)
            heard = os.read(self._ears, 512) if select.select([self._ears], [], [], wait)[0] else b""
            now = time.monotonic()
            for number in (number for number in heard if number in _SIGNALS):
                if self._number is None:
                    self._number, self._deaf_until = number, now + _ONE
                    self._deadline = now + self._patience
                elif now >= self._deaf_until:
                    self._end(f"interrupted again: ended at once; {_SAFE}")
            if self._again and not heard and self._number is not None:
                self._again, self._deaf_until = False, max(self._deaf_until, now + _ONE)
                signal.pthread_kill(self._main.ident or 0, self._number)
            if now >= self._deadline:
                self._end(
                    f"interrupted: the end took more than {self._patience:.0f} s{self._where()}: "
                    f"ended at once; {_SAFE}"
                )

    def _where(self) -> str:
        """The part of proofcard in which the main thread is."""
        frame = sys._current_frames().get(self._main.ident or 0)
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name.startswith("proofcard.") and name not in ("proofcard.command", "proofcard.cli"):
                return f", in {name}, line {frame.f_lineno}"
            frame = frame.f_back
        return ""

    def _end(self, why: str) -> NoReturn:
        if os.environ.get(DEBUG):
            faulthandler.dump_traceback(2)
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
        if select.select([], [2], [], _ONE)[1]:
            with contextlib.suppress(OSError):
                os.write(2, f"{cursor}{why}\n".encode())
        with contextlib.suppress(OSError):
            self._last()
        os._exit(128 + (self._number or signal.SIGINT))

    def _after_fork(self) -> None:
        """A child's signals are not ours; it has no such thread."""
        self._forked = True
        signal.set_wakeup_fd(-1)


def _is_delicate(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code.co_filename.endswith(_DELICATE):
        return True
    while frame is not None:
        if _DATABASE in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


_listener: _Listener | None = None


def listen() -> None:
    """Have signals raise `Interrupted` in the main thread, once, from now on."""
    global _listener
    if _listener is None:
        _listener = _Listener()


def over() -> None:
    """The work has ended, one way or another: nothing is raised any more."""
    if _listener is not None:
        _listener.over()


def allow(seconds: float, last: Callable[[], None] = lambda: None) -> None:
    """The end of an interrupted command may take this long from now: something has to be waited for.

    `last` is called before the process is ended at once, all the same. It must not wait.
    """
    if _listener is not None:
        _listener.allow(seconds, last)
