"""The files of a dataset's repository on the hub at its pinned commit."""

import re
from pathlib import Path
from typing import Any

from proofcard.config.schema import Dataset
from proofcard.errors import Usage
from proofcard.hub import Wanted, errors_explained, with_retries

_COMMIT = re.compile(r"[0-9a-f]{40}")


def listing(name: str, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Every file of the repository at the pinned commit: `size` in bytes, and `sha256` or `git_sha1`.

    The hub has the sha256 of large files (LFS, Xet), and git's blob id of small ones.

    Raises:
        Usage: when the revision is not a commit.
        Stop: when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api, repository, commit = HfApi(), dataset.repository, dataset.revision
    with errors_explained(wanted(name, dataset)):
        if commit is None or not _COMMIT.fullmatch(commit):
            newest = with_retries(lambda: api.dataset_info(repository, revision=commit)).sha
            raise Usage(
                f"{_key(name, 'revision')}={commit or 'null'} is not a commit of {repository}: "
                f"set {_key(name, 'revision')}={newest}, the current commit of {commit or 'main'}"
            )
        with_retries(lambda: api.auth_check(repository, repo_type="dataset"))
        info = with_retries(lambda: api.dataset_info(repository, revision=commit, files_metadata=True))
    return {
        file.rfilename: {
            "size": file.size,
            **({"sha256": file.lfs.sha256} if file.lfs else {"git_sha1": file.blob_id}),
        }
        for file in info.siblings or []
    }


def keep_readme(dataset: Dataset) -> Path | None:
    """Download README.md to the hub cache, where `datasets` looks first, since it never retries a busy hub.

    Returns its path, or None if the repository has none.
    """
    from huggingface_hub import errors, hf_hub_download

    try:
        path = with_retries(
            lambda: hf_hub_download(
                dataset.repository, "README.md", repo_type="dataset", revision=dataset.revision
            )
        )
    except errors.LocalEntryNotFoundError:  # the hub was not reached
        raise
    except errors.EntryNotFoundError:
        return None  # splits then follow from file names
    return Path(path)


def wanted(name: str, dataset: Dataset) -> Wanted:
    """The dataset's repository and the settings that select it."""
    return Wanted("dataset", dataset.repository, dataset.revision, f"calibration.datasets.{name}")


def _key(name: str, field: str) -> str:
    return f"calibration.datasets.{name}.{field}"
