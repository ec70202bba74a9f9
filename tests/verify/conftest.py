"""One source and its sealed checkpoint, of which every test takes a copy."""

import shutil
from pathlib import Path

import pytest
from verify.making import make_checkpoint, make_source


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sealed") / "checkpoint", source)


@pytest.fixture
def checkpoint(tmp_path: Path, pristine: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
