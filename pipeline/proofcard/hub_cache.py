"""The hub client's cache: folders that must keep the form that the client gave them.

`hub/models--OWNER--NAME/snapshots/COMMIT/`; a file of ours among the snapshots, and the client calls the
whole repository corrupted (`hf cache ls`).
"""

import re
from pathlib import Path

_REPOSITORY = re.compile(r"(?:models|datasets|spaces)--(.+)")


def name_in_cache(path: Path) -> str | None:
    """A short name for a folder inside the cache, `OWNER--NAME@COMMIT`; None for one elsewhere."""
    parts = path.absolute().parts
    for place, part in enumerate(parts):
        repository = _REPOSITORY.fullmatch(part)
        if repository and parts[place + 1 : place + 2] == ("snapshots",) and len(parts) > place + 2:
            commit, *below = parts[place + 2 :]
            return "--".join([f"{repository[1]}@{commit[:12]}", *below])
    return None
