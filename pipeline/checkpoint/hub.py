"""One commit of a Hugging Face repository, through the hub's own client: what it holds, and its files.

The token is the client's business (HF_TOKEN or a login), as are HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.digest import sha256_file
from pipeline.disk import is_full
from pipeline.errors import Stop, Usage, one_line

_RETRIES = 4  # in a row without a new byte, after 1, 2, 4 and 8 seconds, or what the hub asks for
_LONGEST_WAIT = 300.0  # seconds; the hub counts requests over five minutes
_RESUMES = "the same command resumes the download"

Result = TypeVar("Result")


class Promised(NamedTuple):
    """What the hub says of a file: bytes, sha256 when it lies in LFS, and git's blob id when it does not."""

    size: int
    sha256: str | None
    blob: str

    def kept_by(self, path: Path) -> str | None:
        """The sha256 of a file that is what was promised; None for any other."""
        if path.stat().st_size != self.size:
            return None
        found = sha256_file(path)
        right = found == self.sha256 if self.sha256 else _blob_id(path) == self.blob
        return found if right else None


@dataclass(frozen=True)
class Repository:
    """A model repository at a commit."""

    name: str
    commit: str

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:12]}"

    def listing(self) -> dict[str, Promised]:
        """Every file of the commit by path. Raises Stop as `fetch` does."""
        from huggingface_hub import HfApi

        info = _patiently(
            self, lambda: HfApi().model_info(self.name, revision=self.commit, files_metadata=True, timeout=30)
        )
        return {
            file.rfilename: Promised(
                file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id or ""
            )
            for file in info.siblings or []
        }

    def header(self, file: str) -> dict[str, Any]:
        """A safetensors file's header, by HTTP range: `{name: {"dtype", "shape", "data_offsets"}}`."""
        from huggingface_hub import HfApi

        said = _patiently(
            self, lambda: HfApi().parse_safetensors_file_metadata(self.name, file, revision=self.commit)
        )
        return {
            name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
            for name, tensor in said.tensors.items()
        }

    def fetch(self, file: str, promised: Promised, incoming: Path) -> tuple[Path, str]:
        """Download a file below `incoming`, going on where a former try ended; returns it and its sha256.

        Raises:
            Stop: when the hub refuses or cannot be reached, or the bytes are not those that it promised.
            OSError: when the disk is full.
        """
        from huggingface_hub import hf_hub_download

        parts = incoming / ".cache" / "huggingface" / "download"

        def attempt() -> str:
            try:
                return hf_hub_download(self.name, file, revision=self.commit, local_dir=incoming)
            except OSError:
                for part in parts.glob("*.incomplete"):
                    if part.stat().st_size > promised.size:
                        part.unlink()  # nothing can be added to make it right
                raise

        def here() -> int:
            return sum(part.stat().st_size for part in parts.glob("*.incomplete"))

        path = Path(_patiently(self, attempt, here))
        digest = promised.kept_by(path)
        if digest is None:
            found = sha256_file(path) if promised.sha256 else _blob_id(path)
            size = path.stat().st_size
            path.unlink()
            raise Stop(
                f"{self}: {file} came with digest {found} ({size} bytes), the hub promised "
                f"{promised.sha256 or promised.blob} ({promised.size} bytes): it was deleted; {_RESUMES}"
            )
        return path, digest


def pinned(name: str, revision: str | None) -> Repository:
    """The repository at its commit.

    Raises:
        Usage: when the revision is no commit, naming the one that main is at if the hub tells it.
    """
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return Repository(name, revision)
    said = f"model.revision={revision} is no commit" if revision else "model.revision is not set"
    raise Usage(
        f"{said}: a branch can move, so give the 40 hex digits of a commit of {name}{_main(name)}, "
        "or model.path=… for a local copy"
    )


def quiet() -> None:
    """Keep the client's bars and warnings off the terminal: what matters of them is said by us."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()


def _main(name: str) -> str:
    """Where main is, as the end of a sentence's part; nothing when the hub does not tell."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        return f" (main is at {HfApi().model_info(name, timeout=5).sha})"
    except (OSError, HFValidationError):
        return ""


def _patiently(
    repository: Repository, call: Callable[[], Result], progress: Callable[[], int] = lambda: 0
) -> Result:
    """What the call returns, tried again while the fault may pass. `progress` counts bytes that are here."""
    from huggingface_hub.errors import HFValidationError, SafetensorsParsingError

    failed = 0
    while True:
        before = progress()
        try:
            return call()
        except (HFValidationError, SafetensorsParsingError) as error:
            raise Stop(f"{repository}: {one_line(error)[:200]}") from None
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, hf_xet's RuntimeErrors
            if is_full(error):
                error.add_note(_RESUMES)
                raise
            cause = _cause(error)
            failed = 1 if progress() > before else failed + 1
            if not _may_pass(cause) or failed > _RETRIES:
                raise Stop(_explain(repository, cause)) from None
            time.sleep(_wait(cause, failed))


def _cause(error: Exception) -> Exception:
    """What is behind the client's `cannot find the file locally either`."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    behind = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return behind if isinstance(behind, Exception) else error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _may_pass(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    return status is None or status in (416, 429) or status >= 500


def _wait(error: Exception, failed: int) -> float:
    """Seconds: what the hub asks for, within bounds, or twice as long each time."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(asked), _LONGEST_WAIT) if asked.isdigit() else 2.0 ** (failed - 1)


def _explain(repository: Repository, error: Exception) -> str:
    """One sentence: what is wrong and what to do."""
    from huggingface_hub import constants, errors

    status, name = _status(error), repository.name
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repository} is not complete here and HF_HUB_OFFLINE is set: unset it, or fetch it first"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated: accept its licence at {constants.ENDPOINT}/{name} and set HF_TOKEN to a token "
            "of the account that did"
        )
    if status == 401:
        return (
            f"the hub lets nobody in to {name} without a valid token (401): check the name, and set HF_TOKEN "
            "to a token of an account that may read it"
        )
    if status == 403:
        return f"the token may not read {name} (403): give it that permission at {constants.ENDPOINT}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no commit {repository.commit}: check model.revision{_main(name)}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no model {name}: check model.repository"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repository} lacks a file that it lists ({one_line(error)[:120]}): try again later"
    if status == 429:
        return f"the hub still says that it is asked too often (429): wait some minutes; {_RESUMES}"
    if status is not None:
        return f"the hub cannot answer now ({status}): try again later; {_RESUMES}"
    return f"the connection to the hub failed ({one_line(error)[:160]}): check the network; {_RESUMES}"


def _blob_id(path: Path) -> str:
    """git's id of a file's content: sha1 over `blob <size>`, a zero byte and the bytes."""
    body = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
