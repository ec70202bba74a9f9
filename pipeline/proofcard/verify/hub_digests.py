"""Level `integrity` of a repository of the hub that nobody sealed: its files are those of the commit.

Digests are the hub's own: SHA-256 for what lies in LFS, git's blob id for the rest. Whether the commit is the
right one is for its publisher to say.
"""

from proofcard.checkpoint.streamed import Streamed
from proofcard.verify.report import Level


def check(stream: Streamed) -> Level:
    """Bring whatever of the weights nobody has read, and count what was held to the hub's digests.

    Raises:
        Lost: when a file does not come, or not as it was promised.
    """
    level = Level("integrity")
    shards = stream.shards()
    tensors = sum(len(stream.digests(file)[1]) for file in shards)
    checked = [file for file in stream.files if not stream.comes(file) or file in shards]
    level.counts.update(
        files=len(checked), tensors=tensors, bytes=sum(stream.files[file].size for file in checked)
    )
    commit = stream.repository.commit[:12]
    level.notes.append(f"it was never sealed: its files are those of commit {commit}, by the hub's digests")
    if left := sorted(stream.files.keys() - set(checked)):
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        level.notes.append(f"nothing here reads {left[0]}{more}: not fetched")
    return level
