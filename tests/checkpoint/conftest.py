"""A hub of one's own, always at the same address: the client reads it, and HF_HOME, when it is imported."""

import shutil
from collections.abc import Iterator

import forking
import pytest
from hub import Hub
from slurm import free_port


@pytest.fixture(scope="session")
def hub_port() -> int:
    return free_port()


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, hub_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    home = tmp_path_factory.getbasetemp() / "hf_home"
    shutil.rmtree(home, ignore_errors=True)
    with Hub(hub_port) as serving:
        settings = {"HF_ENDPOINT": serving.endpoint, "HF_HOME": str(home)}
        forking.serve_with(settings)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", "100")
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield serving
