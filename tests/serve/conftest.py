"""One `serve` for all the tests that only look."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from serving import Served, ended, family, left_of, start, wait_for


@pytest.fixture(scope="session")
def served(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Started, asked through OpenAI's own client, ended by Ctrl-C."""
    cwd = tmp_path_factory.mktemp("served")
    result = Served(cwd, demo)
    process = start(
        cwd, f"checkpoint={demo}", "serving.served_model_name=demo", "serving.ready_timeout_s=780"
    )
    try:
        wait_for("stop it", cwd / "out.txt", process)
        processes = family(process, 2)
        address = next(line.split()[1] for line in result.out.splitlines() if line.startswith("address"))
        result.streamed = _asked(address)
        result.reached = [
            connection.laddr.ip
            for each in processes
            for connection in each.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        process.send_signal(signal.SIGINT)
        result.status = ended(process)
        result.left = left_of(processes)
    finally:
        process.kill()
        ended(process)
    return result


def _asked(address: str) -> list[Any]:
    import openai

    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=120) as client:
        assert [model.id for model in client.models.list()] == ["demo"]
        question: Any = [{"role": "user", "content": "What is 7 times 8?"}]
        return list(
            client.chat.completions.create(
                model="demo", messages=question, temperature=0, max_tokens=64, stream=True
            )
        )
