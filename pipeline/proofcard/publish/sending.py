"""The upload: large files one after the other, then one commit with all of them, or nothing.

What was uploaded stays at the hub by its digest, also without a commit: the same command sends the rest.
Until the commit nobody sees a part, and nothing is written into the folder that is sent.
"""

from typing import Any

from proofcard.errors import Stop
from proofcard.hub import RESUMES
from proofcard.progress import Bar
from proofcard.publish.content import Outgoing
from proofcard.publish.refusals import explained, patiently
from proofcard.publish.repository import Existing

_LARGE = 1 << 20  # bytes from which a file is sent by itself


def create(name: str, private: bool) -> None:
    """Make the repository. Raises Stop when it exists by now, or this token may not."""
    from huggingface_hub import HfApi

    with explained(name):
        HfApi().create_repo(name, private=private, repo_type="model")


def send(name: str, files: list[Outgoing], deleted: list[str], parent: str, message: tuple[str, str]) -> str:
    """Upload what the hub does not have, and commit it on top of `parent`; returns the commit.

    `message` is the commit's first line and the rest. Where nothing differs, it is `parent`.

    Raises:
        Stop: when the hub refuses, cannot be reached or was changed meanwhile; a file is not what was sealed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    additions: list[CommitOperationAdd] = []
    for file in files:
        added = CommitOperationAdd(file.name, file.content if file.content is not None else str(file.path))
        if added.upload_info.sha256.hex() != file.sha256:
            raise Stop(f"{file.path} is not what was sealed any more: verify it again")
        additions.append(added)
    try:
        with Bar("uploading", len(additions), "files") as bar:
            for added in additions:
                if added.upload_info.size >= _LARGE:
                    patiently(
                        name,
                        lambda op=added: api.preupload_lfs_files(name, [op], free_memory=False),  # type: ignore[misc]
                    )
                    bar.advance()
            operations: list[Any] = [*additions, *(CommitOperationDelete(each) for each in deleted)]
            first, rest = message
            with explained(name):  # once: a commit whose answer was lost may have been made
                commit = api.create_commit(
                    name, operations, commit_message=first, commit_description=rest, parent_commit=parent
                )
            bar.advance(len(additions) - bar.done)
    except KeyboardInterrupt as stop:
        stop.add_note(f"what was uploaded is kept by the hub: {RESUMES}")
        raise
    return str(commit.oid)


def tag(name: str, key: str, commit: str, existing: Existing) -> None:
    """Tag a commit with the checkpoint's key; a tag of the same key on an earlier commit is moved.

    Raises:
        Stop: when the hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    former = existing.tags.get(key)
    if former == commit:
        return
    with explained(name):
        if former is not None:
            api.delete_tag(name, tag=key)
        api.create_tag(name, tag=key, revision=commit, tag_message=f"checkpoint {key}")
