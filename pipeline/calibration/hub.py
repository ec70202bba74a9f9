"""What a dataset's repository on the hub holds at its pinned commit, and plain words for its refusals."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.config.schema import Dataset
from pipeline.errors import Stop, Usage, one_line
from pipeline.progress import console

Answer = TypeVar("Answer")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRIES = 5
_BUSY = (429, 500, 502, 503, 504)
_LONGEST_WAIT = 60  # seconds


def listing(name: str, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Every file of the repository at the pinned commit: `size` in bytes, and `sha256` or `git_sha1`.

    The hub keeps the sha256 of large files (LFS, Xet); of a small one it tells git's blob id.

    Raises:
        Usage: when the revision is not a commit.
        Stop: when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api, repository, commit = HfApi(), dataset.repository, dataset.revision
    with in_plain_words(name, dataset):
        if commit is None or not _COMMIT.fullmatch(commit):
            newest = patiently(lambda: api.dataset_info(repository, revision=commit)).sha
            raise Usage(
                f"{_key(name, 'revision')}={commit or 'null'} pins no commit of {repository}: "
                f"set {_key(name, 'revision')}={newest}, which {commit or 'main'} is now"
            )
        patiently(lambda: api.auth_check(repository, repo_type="dataset"))
        said = patiently(lambda: api.dataset_info(repository, revision=commit, files_metadata=True))
    return {
        file.rfilename: {
            "size": file.size,
            **({"sha256": file.lfs.sha256} if file.lfs else {"git_sha1": file.blob_id}),
        }
        for file in said.siblings or []
    }


def keep_readme(dataset: Dataset) -> None:
    """Put the README.md into the hub's cache, where `datasets` looks first: it asks a busy hub only once."""
    from huggingface_hub import errors, hf_hub_download

    try:
        patiently(
            lambda: hf_hub_download(
                dataset.repository, "README.md", repo_type="dataset", revision=dataset.revision
            )
        )
    except errors.LocalEntryNotFoundError as error:
        raise error.__cause__ or error from None
    except errors.EntryNotFoundError:
        pass  # names of files tell the splits, too


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns; asked again, after the wait it names, while the hub is too busy to answer."""
    for wait in [2**attempt for attempt in range(_TRIES - 1)]:
        try:
            return ask()
        except Exception as error:
            busy = _busy(error)
            if busy is None:
                raise
            said = busy.headers.get("Retry-After", "")
            seconds = min(int(said) if said.isdigit() else wait, _LONGEST_WAIT)
            console.print(f"the hub is busy ({busy.status_code}): asking again in {seconds} s")
            time.sleep(seconds)
    return ask()


@contextmanager
def in_plain_words(name: str, dataset: Dataset) -> Iterator[None]:
    """A context in which the hub's refusals become a Stop that says what to do about them."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants, errors
    from requests import RequestException

    repository = dataset.repository
    page = f"{constants.ENDPOINT}/datasets/{repository}"
    locally = f"or set {_key(name, 'path')} to a copy of it"
    try:
        yield
    except errors.GatedRepoError as error:
        token = "log in with `hf auth login` or HF_TOKEN" if _status(error) == 401 else "with this account"
        raise Stop(f"{repository} is gated: accept its conditions at {page}, {token}, {locally}") from None
    except errors.RevisionNotFoundError:
        raise Stop(
            f"{repository} has no commit {dataset.revision}: correct {_key(name, 'revision')}"
        ) from None
    except (errors.RepositoryNotFoundError, DatasetNotFoundError):
        raise Stop(
            f"the hub shows no dataset {repository}: correct {_key(name, 'repository')}, log in with "
            f"`hf auth login` or HF_TOKEN if it is private, {locally}"
        ) from None
    except errors.EntryNotFoundError as error:
        raise Stop(f"{repository} lacks a file at {dataset.revision}: {one_line(error)}") from None
    except errors.HfHubHTTPError as error:
        reason = {401: "refuses this token", 403: "forbids this token", 429: "asks to come back later"}
        said = reason.get(_status(error), f"answers {_status(error)}")
        raise Stop(
            f"the hub {said} for {repository} ({one_line(error)[:200]}): try again, {locally}"
        ) from None
    except (RequestException, ConnectionError) as error:
        raise Stop(
            f"the hub cannot be reached for {repository} ({one_line(error)[:200]}): the same command tries "
            f"again, {locally}"
        ) from None


def _busy(error: BaseException) -> Any:
    """The response in which the hub says so, if that is what the error, or its cause, is about."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if response is not None and response.status_code in _BUSY:
            return response
    return None


def _status(error: Any) -> int:
    return error.response.status_code if error.response is not None else 0


def _key(name: str, field: str) -> str:
    return f"calibration.datasets.{name}.{field}"
