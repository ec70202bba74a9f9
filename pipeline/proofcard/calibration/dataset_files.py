"""What a dataset's repository on the hub holds at its pinned commit."""

import re
from pathlib import Path
from typing import Any

from proofcard.config.schema import Dataset
from proofcard.errors import Usage
from proofcard.hub import Wanted, in_plain_words, patiently

_COMMIT = re.compile(r"[0-9a-f]{40}")


def listing(name: str, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Every file of the repository at the pinned commit: `size` in bytes, and `sha256` or `git_sha1`.

    The hub keeps the sha256 of large files (LFS, Xet); of a small one it tells git's blob id.

    Raises:
        Usage: when the revision is not a commit.
        Stop: when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api, repository, commit = HfApi(), dataset.repository, dataset.revision
    with in_plain_words(wanted(name, dataset)):
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


def keep_readme(dataset: Dataset) -> Path | None:
    """Put the README.md into the hub's cache, where `datasets` looks first: it asks a busy hub only once.

    Returns where it is, None when there is none.
    """
    from huggingface_hub import errors, hf_hub_download

    try:
        kept = patiently(
            lambda: hf_hub_download(
                dataset.repository, "README.md", repo_type="dataset", revision=dataset.revision
            )
        )
    except errors.LocalEntryNotFoundError:  # the hub was not reached
        raise
    except errors.EntryNotFoundError:
        return None  # names of files tell the splits, too
    return Path(kept)


def wanted(name: str, dataset: Dataset) -> Wanted:
    """The dataset's repository, with the settings that name it."""
    return Wanted("dataset", dataset.repository, dataset.revision, f"calibration.datasets.{name}")


def _key(name: str, field: str) -> str:
    return f"calibration.datasets.{name}.{field}"
