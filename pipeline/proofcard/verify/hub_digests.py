"""Level `integrity` of an unsealed hub repository: its files are those of the commit.

Digests are the hub's own: SHA-256 for what lies in LFS, git's blob id for the rest. Whether it is the right
commit, only its publisher can say.
"""

from proofcard.checkpoint.streamed import Streamed
from proofcard.verify.report import Level


def check(stream: Streamed) -> Level:
    """Download the weights that no level has read, and count what was checked against the hub's digests.

    Raises:
        Lost: when a file cannot be downloaded, or does not have the announced digest.
    """
    level = Level("integrity")
    shards = stream.shards()
    tensors = sum(len(stream.digests(file)[1]) for file in shards)
    checked = [file for file in stream.files if not stream.comes(file) or file in shards]
    level.counts.update(
        files=len(checked), tensors=tensors, bytes=sum(stream.files[file].size for file in checked)
    )
    commit = stream.repository.commit[:12]
    level.notes.append(
        f"it was never sealed: its files are those of commit {commit}, checked against the hub's digests"
    )
    if left := sorted(stream.files.keys() - set(checked)):
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        level.notes.append(f"not fetched, since no level needs it: {left[0]}{more}")
    return level
