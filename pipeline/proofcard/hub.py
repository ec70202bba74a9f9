"""The Hugging Face hub, for models and datasets: retries of temporary failures, and errors in plain words.

The client handles the token (HF_TOKEN or a login), HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from proofcard.errors import Stop, is_full, one_line
from proofcard.progress import console
from proofcard.reachable import in_brief, why_unreachable

_RETRIES = 4  # in a row without a new byte, after 1, 2, 4 and 8 seconds, or as the hub requests
_LONGEST_WAIT = 300.0  # seconds; the hub counts requests over five minutes
FIRST_WAIT = 1.0  # seconds
RESUMES = "the same command resumes"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Wanted:
    """A repository at a commit. The settings below `where` name it: `where.revision`, …

    With `address` it is named by `where` itself, as in checkpoint=hf://OWNER/NAME@COMMIT.
    """

    kind: Literal["model", "dataset"]
    name: str
    commit: str | None
    where: str
    address: bool = False

    @property
    def repository_key(self) -> str:
        """The setting that holds the repository's name."""
        return self.where if self.address else f"{self.where}.repository"

    @property
    def revision_key(self) -> str:
        """The setting that holds the commit."""
        return self.where if self.address else f"{self.where}.revision"

    @property
    def locally(self) -> str:
        """How to do without the hub, as the end of a sentence."""
        if self.address:
            return f"or give {self.where}=DIR, a copy of it"
        return f"or set {self.where}.path to a copy of it"

    def main(self) -> str:
        """The commit of main, as a parenthesis for a message; empty if the hub does not answer."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError

        try:
            return f" (main is at {HfApi().repo_info(self.name, repo_type=self.kind, timeout=5).sha})"
        except (OSError, HFValidationError):
            return ""


class Unreachable(ConnectionError):
    """Nobody listens at the hub's address, for a reason in a few words."""

    def __str__(self) -> str:
        why = self.args[0]
        return f"the hub at {endpoint()} cannot be reached ({why}): check the network and HF_ENDPOINT"


def endpoint() -> str:
    """The hub's address."""
    from huggingface_hub import constants

    return constants.ENDPOINT


_heard = False
"""Whether this process has had an answer from the hub: one that was never reached is not asked again."""


def with_retries(call: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """The result of a call, with retries of temporary failures. `progress` counts received bytes."""
    global _heard
    failed = 0
    while True:
        before = progress()
        try:
            result = call()
            _heard = True
            return result
        except Exception as error:
            cause = _behind(error)
            _heard = _heard or progress() > before or _status(cause) is not None
            if _may_pass(cause) and not _heard and (why := why_unreachable(endpoint())):
                raise Unreachable(why) from None
            failed = 1 if progress() > before else failed + 1
            if is_full(error) or not _may_pass(cause) or failed > _RETRIES:
                raise
            seconds, status = _wait(cause, failed), _status(cause)
            why = f"the hub is busy ({status})" if status else "the connection to the hub failed"
            console.print(f"{why}: retrying in {seconds:g} s")
            time.sleep(seconds)


@contextmanager
def errors_explained(wanted: Wanted) -> Iterator[None]:
    """A context in which the hub's errors become a Stop that says what to do about them."""
    from huggingface_hub.errors import HFValidationError, SafetensorsParsingError

    try:
        yield
    except (HFValidationError, SafetensorsParsingError) as error:
        raise Stop(f"{wanted.repository_key}={wanted.name}: {one_line(error)[:200]}") from None
    except Exception as error:
        if not isinstance(error, (OSError, RuntimeError, *_network_errors())):  # hf_xet's are RuntimeErrors
            raise
        if is_full(error):
            error.add_note(RESUMES)
            raise
        sentence = _explained(wanted, _behind(error))
        if sentence is None:
            raise
        raise Stop(sentence) from None


def _behind(error: Exception) -> Exception:
    """The hub's response behind a client's `cannot find the file locally either` or `couldn't reach`."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    behind = isinstance(error, LocalEntryNotFoundError) or (_status(error) is None and _status(cause))
    return cause if behind and isinstance(cause, Exception) else error


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _may_pass(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in (416, 429) or status >= 500
    return isinstance(error, _network_errors()) and not isinstance(error, OfflineModeIsEnabled)


def _network_errors() -> tuple[type[BaseException], ...]:
    """What a connection fails with: the system's errors, and those of the library that the client uses."""
    libraries = {"requests": "RequestException", "httpx": "HTTPError"}  # before and since huggingface_hub 1.0
    loaded = [(sys.modules[name], error) for name, error in libraries.items() if name in sys.modules]
    return (ConnectionError, TimeoutError, *(getattr(module, error) for module, error in loaded))


def _wait(error: Exception, failed: int) -> float:
    """Seconds to wait: as the hub requests, within limits, or twice as long each time."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else FIRST_WAIT * 2.0 ** (failed - 1)


def _explained(wanted: Wanted, error: Exception) -> str | None:
    """One sentence: what is wrong and what to do. None if it is not an error of the hub."""
    from huggingface_hub import errors

    status, name, where = _status(error), wanted.name, wanted.repository_key
    page = f"{endpoint()}/{'datasets/' * (wanted.kind == 'dataset')}{name}"
    locally = wanted.locally
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{name} is incomplete in the local cache and HF_HUB_OFFLINE is set: unset it, {locally}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated: accept its conditions at {page} and set HF_TOKEN to a token of the account "
            f"that did, {locally}"
        )
    if status == 401:
        return (
            f"the hub denies access to {name} without a valid token (401): check {where} and set "
            f"HF_TOKEN to a token of an account that may read it, {locally}"
        )
    if status == 403:
        return f"the token has no permission to read {name} (403): grant it at {endpoint()}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no commit {wanted.commit}: check {wanted.revision_key}{wanted.main()}"
    if isinstance(error, errors.RepositoryNotFoundError) or _is_no_dataset(wanted, error):
        return f"the hub has no {wanted.kind} {name}: check {where}, {locally}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name} does not have a file that it lists ({one_line(error)[:120]}): try again later"
    if status == 429:
        return (
            f"the hub still refuses {name} because of too many requests (429): wait a few minutes; {RESUMES}"
        )
    if status is not None:
        return f"the hub is unavailable ({status}) for {name}: try again later; {RESUMES}"
    if isinstance(error, Unreachable):
        return f"{error}, {locally}"
    if not _may_pass(error):
        return None
    return f"the connection to the hub failed for {name} ({in_brief(error)}): check the network; {RESUMES}"


def _is_no_dataset(wanted: Wanted, error: Exception) -> bool:
    if wanted.kind != "dataset":
        return False
    from datasets.exceptions import DatasetNotFoundError

    return isinstance(error, DatasetNotFoundError)
