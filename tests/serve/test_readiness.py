"""When an engine counts as ready: it answers, it is the one that was started, and it serves that model."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hostile import HTTP, MODELS, Server, Speech, delta, of_json, request, says, serving, sized, streamed

from proofcard.config.serving import Serving
from proofcard.errors import Stop
from proofcard.serve import address, client, engine
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.process import Supervised

TOKEN = streamed(delta("Hi"), delta(finish="length"))
HEALTHY = says(sized(b"HTTP/1.1 200 OK\r\n", b""))
NAMED = of_json({"data": [{"id": "m"}]})


class Started:
    """As much of `Supervised` as the look-out needs: by default the server of the test is its own."""

    def __init__(self, family: set[int] | None = None) -> None:
        self._family = {os.getpid()} if family is None else family

    def family(self) -> set[int]:
        return self._family

    def ended(self) -> bool:
        return False

    def status(self) -> int | None:
        return None


class Routed(Server):
    """One speech for each path below the first part."""

    def __init__(self, **speeches: Speech) -> None:
        self.paths: list[str] = []
        self._speeches = speeches
        super().__init__({})

    def _talk(self, connection: Any) -> None:
        with connection:
            head = request(
                connection
            )  # with its body: closed with some of it unread, the client may get a reset
            path = head.split()[1].decode().rpartition("/")[2]
            self.paths.append(path)
            self._speeches[path](connection)


def until_ready(server: Server, started: Started, log: Path, seconds: float = 2.0, model: str = "m") -> float:
    serving = Serving(
        name="profile", summary="", engine="vllm", flags={}, environment={}, host="127.0.0.1", port=0,
        api_key_file=None, served_model_name=None, ready_timeout_s=seconds, remote_code={},
    )  # fmt: skip
    url = f"http://127.0.0.1:{server.port}/v1"
    endpoint = Endpoint(url, model, "secretsecret", None, "vllm", os.getpid(), log)
    whole: Any = started
    return engine._until_ready(serving, endpoint, whole)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "engine.log"
    path.write_text("[/INST] starting \x1b[2J\n")
    return path


def test_an_engine_that_answers_for_its_model_is_ready(log: Path):
    server = Routed(health=HEALTHY, models=NAMED, completions=TOKEN)
    assert until_ready(server, Started(), log) < 2
    assert server.paths == ["health", "models", "completions"]


def test_another_process_on_the_port_is_not_the_engine_and_is_not_shown_the_key(log: Path):
    server = Routed(health=HEALTHY, models=NAMED, completions=TOKEN)
    with pytest.raises(Stop, match=rf"port {server.port} is answered by .*: stop it, or choose another"):
        until_ready(server, Started(family=set()), log)
    assert server.paths == ["health"]


def test_a_process_that_listens_elsewhere_is_not_the_owner(tmp_path: Path):
    argv = (sys.executable, "-c", "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
            "print(s.getsockname()[1], flush=True); time.sleep(60)")  # fmt: skip
    log = tmp_path / "log"
    with Supervised(argv, dict(os.environ), log, 1.0) as own:
        while not log.read_text().endswith("\n"):
            assert not own.ended()
        assert own.pid in own.family() and own.memory() >= 0
        address.check_owner(f"http://127.0.0.1:{int(log.read_text())}/v1", own.family())
        with serving({}) as other, pytest.raises(Stop, match="is answered by"):
            address.check_owner(f"http://127.0.0.1:{other.port}/v1", own.family())


@pytest.mark.parametrize("names", [["other"], ["[/INST]"], ["M"], ["m "], ["n", "m/m"]])
def test_another_model_is_not_ready(log: Path, names: list[str]):
    server = Routed(health=HEALTHY, models=of_json({"data": [{"id": n} for n in names]}), completions=TOKEN)
    with pytest.raises(Stop, match=r"started, but cannot answer: it serves .* instead of m;"):
        until_ready(server, Started(), log)
    assert server.paths == ["health", "models"]


@pytest.mark.parametrize("case", list(MODELS)[:8])
def test_no_list_of_models_is_a_failure(log: Path, case: str):
    server = Routed(health=HEALTHY, models=MODELS[case], completions=TOKEN)
    with pytest.raises(Stop, match=r"started, but cannot answer: its (answer|list)"):
        until_ready(server, Started(), log)


@pytest.mark.parametrize("case", ["closes at once", "500 with markup", "garbage", "301 elsewhere"])
def test_a_first_answer_that_is_none_is_a_failure(log: Path, case: str):
    server = Routed(health=HEALTHY, models=NAMED, completions=HTTP[case])
    with pytest.raises(Stop, match="started, but cannot answer"):
        until_ready(server, Started(), log)


def test_what_never_is_healthy_is_late_and_not_ready(log: Path):
    server = Routed(health=HTTP["503 cut"])
    with pytest.raises(Stop, match=r"was not ready after \d s") as stop:
        until_ready(server, Started(), log, seconds=0.3)
    assert r"[/INST] starting \x1b[2J" in str(stop.value)


@pytest.mark.parametrize("error", [RuntimeError("[/INST]"), MemoryError(), KeyError("x"), RecursionError()])
def test_an_exception_in_the_thread_is_a_failure(
    log: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(client, "models", fails)
    server = Routed(health=HEALTHY)
    with pytest.raises(Stop, match=f"the first request failed with {type(error).__name__}"):
        until_ready(server, Started(), log)


def test_a_thread_that_ends_without_an_answer_is_no_readiness(log: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine._FirstAnswer, "run", lambda self: None)
    before = threading.active_count()  # what earlier tests of this process left running is not ours
    with pytest.raises(Stop, match="was not ready"):
        until_ready(Routed(), Started(), log)
    assert threading.active_count() < before + 20
