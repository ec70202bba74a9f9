"""The Hugging Face hub, for models and datasets: asked again while a fault may pass; refusals in plain words.

The token is the client's business (HF_TOKEN or a login), as are HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from proofcard.errors import Stop, is_full, one_line
from proofcard.progress import console

_RETRIES = 4  # in a row without a new byte, after 1, 2, 4 and 8 seconds, or what the hub asks for
_LONGEST_WAIT = 300.0  # seconds; the hub counts requests over five minutes
FIRST_WAIT = 1.0  # seconds
RESUMES = "the same command goes on"

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
        """Where main is, as the end of a sentence's part; nothing when the hub does not tell."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError

        try:
            return f" (main is at {HfApi().repo_info(self.name, repo_type=self.kind, timeout=5).sha})"
        except (OSError, HFValidationError):
            return ""


def patiently(call: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """What the call returns, tried again while the fault may pass. `progress` counts bytes that are here."""
    failed = 0
    while True:
        before = progress()
        try:
            return call()
        except Exception as error:
            cause = _behind(error)
            failed = 1 if progress() > before else failed + 1
            if is_full(error) or not _may_pass(cause) or failed > _RETRIES:
                raise
            seconds, status = _wait(cause, failed), _status(cause)
            why = f"the hub is busy ({status})" if status else "the connection to the hub failed"
            console.print(f"{why}: asking again in {seconds:g} s")
            time.sleep(seconds)


@contextmanager
def in_plain_words(wanted: Wanted) -> Iterator[None]:
    """A context in which the hub's refusals become a Stop that says what to do about them."""
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
    """The hub's answer behind a client's `cannot find the file locally either` or `couldn't reach`."""
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
    """Seconds: what the hub asks for, within bounds, or twice as long each time."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else FIRST_WAIT * 2.0 ** (failed - 1)


def _explained(wanted: Wanted, error: Exception) -> str | None:
    """One sentence: what is wrong and what to do. None when it is nothing that the hub has said."""
    from huggingface_hub import constants, errors

    status, name, where = _status(error), wanted.name, wanted.repository_key
    page = f"{constants.ENDPOINT}/{'datasets/' * (wanted.kind == 'dataset')}{name}"
    locally = wanted.locally
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{name} is not complete here and HF_HUB_OFFLINE is set: unset it, {locally}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated: accept its conditions at {page} and set HF_TOKEN to a token of the account "
            f"that did, {locally}"
        )
    if status == 401:
        return (
            f"the hub lets nobody in to {name} without a valid token (401): check {where} and set "
            f"HF_TOKEN to a token of an account that may read it, {locally}"
        )
    if status == 403:
        return f"the token may not read {name} (403): give it that permission at {constants.ENDPOINT}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no commit {wanted.commit}: check {wanted.revision_key}{wanted.main()}"
    if isinstance(error, errors.RepositoryNotFoundError) or _is_no_dataset(wanted, error):
        return f"the hub has no {wanted.kind} {name}: check {where}, {locally}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name} lacks a file that it lists ({one_line(error)[:120]}): try again later"
    if status == 429:
        return f"the hub still says that {name} is asked for too often (429): wait some minutes; {RESUMES}"
    if status is not None:
        return f"the hub cannot answer now ({status}) for {name}: try again later; {RESUMES}"
    if not _may_pass(error):
        return None
    return (
        f"the connection to the hub failed for {name} ({one_line(error)[:160]}): check the network; {RESUMES}"
    )


def _is_no_dataset(wanted: Wanted, error: Exception) -> bool:
    if wanted.kind != "dataset":
        return False
    from datasets.exceptions import DatasetNotFoundError

    return isinstance(error, DatasetNotFoundError)
