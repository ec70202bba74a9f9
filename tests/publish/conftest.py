"""A hub on loopback, for the real client within this process, and a checkpoint that may go there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub
from publish.making import ready


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ready(folder)
    return folder


@pytest.fixture
def place(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with `checkpoint`, its card, its source and its verification."""
    folder = tmp_path / "place"
    shutil.copytree(_made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, its writer's token in the environment, and no waiting between retries."""
    with Hub() as serving:
        template = serving.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", serving.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", serving.uploads.token)
        yield serving
