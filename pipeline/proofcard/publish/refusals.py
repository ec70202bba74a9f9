"""Errors of the hub on writing, in one sentence each: what is wrong, and what to do.

Messages of connection errors are left out: they hold addresses that grant the upload.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from proofcard.errors import Stop, Usage
from proofcard.hub import RESUMES, Unreachable, with_retries
from proofcard.screen import quoted

Result = TypeVar("Result")

_NO_SPACE = (402, 413, 507)
_ROOM = ("storage", "quota", "space", "limit reached")  # words of the hub's message where it answers by 403


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """A context in which an error of the hub becomes a Stop about writing to `repository`."""
    try:
        yield
    except Stop:
        raise
    except Exception as error:
        sentence = _sentence(repository, _behind(error))
        if sentence is None:
            raise
        raise Stop(sentence) from None


def patiently(repository: str, call: Callable[[], Result]) -> Result:
    """The result of a call that may be repeated; what may pass is retried, all else a Stop."""

    def once() -> Result:
        try:
            return call()
        except Exception as error:
            behind = _behind(error)
            if _status(behind) in _NO_SPACE:
                raise Stop(_sentence(repository, behind) or "") from None
            if behind is not error:
                raise behind from None
            raise

    with explained(repository):
        return with_retries(once)


def require_token() -> str:
    """The token that the client will send.

    Raises:
        Usage: when there is none.
    """
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise Usage(
            "publishing needs a token that may write: set HF_TOKEN in the environment, or log in once with "
            "`hf auth login`"
        )
    return token


def _behind(error: Exception) -> Exception:
    """The response or connection error that an upload's RuntimeError was raised from."""
    cause = error.__cause__
    return cause if type(error) is RuntimeError and isinstance(cause, Exception) else error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _sentence(repository: str, error: Exception) -> str | None:
    """None for an error that is not the hub's."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    status, message = _status(error), _message(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and publishing needs the hub: unset it"
    if isinstance(error, HFValidationError):
        return f"repository={repository} is not a name that the hub takes: {quoted(str(error))}"
    if isinstance(error, ValueError) and status in (None, 400) and (text := _refused(error)) is not None:
        return f"the hub refuses what should go to {repository}: {text}"
    if status in _NO_SPACE or (status == 403 and any(word in message.lower() for word in _ROOM)):
        return (
            f"the hub has no more space for {repository} ({status}{message}): free some there or get a "
            f"larger plan; {RESUMES}"
        )
    if status == 401:
        return (
            f"the hub does not accept the token for {repository} (401{message}): set HF_TOKEN to a valid one "
            f"that may write, or log in again with `hf auth login`; {RESUMES}"
        )
    if status == 403:
        return (
            f"the token may not write to {repository} (403{message}): use one with write permission, or a "
            "repository of your own"
        )
    if status == 404:
        return (
            f"the hub has no {repository} for this token (404{message}): check OWNER and its members' rights"
        )
    if status in (409, 412):
        return (
            f"{repository} was changed by somebody else meanwhile ({status}{message}): look at what it is "
            "now, and publish again"
        )
    if status == 429:
        return (
            f"the hub refuses {repository} because of too many requests (429): wait a few minutes; {RESUMES}"
        )
    if status is not None:
        return f"the hub cannot take {repository} now ({status}{message}): try again later; {RESUMES}"
    if isinstance(error, Unreachable):
        return f"{error}; nothing was sent"
    if isinstance(error, OSError) or _of_a_client(error):
        what = type(error).__name__
        return f"the connection to the hub broke ({what}), {repository}: check the network; {RESUMES}"
    return None


def _message(error: Exception) -> str:
    """What the hub said, as the end of a parenthesis."""
    response = getattr(error, "response", None)
    said = response.headers.get("X-Error-Message") if response is not None else None
    return f": {quoted(said, 200)}" if said else ""


def _refused(error: ValueError) -> str | None:
    """The client's own errors that pass on what the hub said of files or of the card's metadata."""
    text = str(error)
    known = ("LFS batch API returned errors", "Invalid metadata in README.md")
    return quoted(text) if text.startswith(known) else None


def _of_a_client(error: Exception) -> bool:
    """Whether it is an error of the HTTP library, or of Xet, whose errors are RuntimeErrors."""
    return (
        type(error).__module__.split(".")[0] in ("requests", "httpx", "urllib3")
        or type(error) is RuntimeError
    )
