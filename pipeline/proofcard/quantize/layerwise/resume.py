"""Which layers of a run are complete: a record of each beside the checkpoint, from which a run resumes.

Records do not affect the result: a resumed run writes the same bytes as an uninterrupted one.
"""

import json
from pathlib import Path
from typing import Any

from proofcard.digest import canonical_json
from proofcard.disk import write_whole
from proofcard.ranks import Ranks


class Records:
    """The records below `folder`, shared by all ranks."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks

    def read(self, layers: int) -> list[dict[str, Any]]:
        """The records of the complete layers, up to the first gap."""
        records = []
        for index in range(layers):
            path = self._path(index)
            if not path.exists():
                break
            records.append(json.loads(path.read_text(encoding="utf-8")))
        self._ranks.wait()  # no rank adds a record before all ranks have read them
        return records

    def keep(self, index: int, record: dict[str, Any]) -> None:
        """Mark a layer as complete, once every rank has its bytes on disk."""
        self._ranks.wait()
        if self._ranks.leads:
            write_whole(self._path(index), canonical_json(record))
        self._ranks.wait()

    def _path(self, index: int) -> Path:
        return self._folder / f"layer-{index:05}.json"
