"""One pair of source and checkpoint for the session."""

from pathlib import Path
from typing import Any

import pytest
from evaluating import Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), texts)


@pytest.fixture(scope="session")
def evaluation(pair: Pair) -> dict[str, Any]:
    """What evaluating the pair on held-out rows finds."""
    return pair.evaluated("whole")
