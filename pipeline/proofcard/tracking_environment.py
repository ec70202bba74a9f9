"""What a run's tags say of where it ran: informative, in no key and in no compared field."""

import os
import platform
import shlex
import shutil
import subprocess
import sys

from proofcard import children
from proofcard.bundle import bundled
from proofcard.fingerprint import lock_digest

_REVISION = "PROOFCARD_REVISION"


def environment() -> dict[str, str]:
    """Digest of the lock, versions of Python and the system, and the commit with whether it was changed."""
    found = {"uv.lock.sha256": lock_digest(), "python": platform.python_version(), "os": platform.platform()}
    revision = _revision()
    if revision is not None:
        found["mlflow.source.git.commit"] = revision.removesuffix("-dirty")
        found["git.dirty"] = str(revision.endswith("-dirty")).lower()
    return found


def command_line(command: str) -> str:
    """The command that is running, to paste into a shell."""
    return shlex.join(["proofcard", command, *sys.argv[1:]])


def _revision() -> str | None:
    """The commit of this checkout, or the one from which an image was built."""
    if _REVISION in os.environ:
        return os.environ[_REVISION]
    if shutil.which("git") is None:
        return None
    root = bundled("conf").parent
    git = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False, env=children.environment(),
    )  # fmt: skip
    return git.stdout.strip() if git.returncode == 0 else None
