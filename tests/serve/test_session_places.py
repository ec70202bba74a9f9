"""What a session says of its command can be published: it names no folder of the machine."""

from pathlib import Path

import pytest

from proofcard import portable
from proofcard.documents.base import Document
from proofcard.serve import session
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared
from proofcard.serve.launch import Launch


class Line(Document):
    command: str


def test_the_command_names_the_checkpoint_and_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start = Path("/data/runs/serve/one-001")
    launch = Launch(
        (
            "/opt/x/.venv-serve/bin/python",
            "-m",
            "server",
            f"--model-path={start}/model/demo-0123",
            "--port",
            "1",
        ),
        {"HF_MODULES_CACHE": f"{start}/model/modules", "CACHE": f"{tmp_path}/cache"},
    )
    endpoint = Endpoint("http://127.0.0.1:1/v1", "demo", None, None, "sglang", 0, start / "engine.log")
    prepared = Prepared(None, Path("/data/made/demo-0123"), launch, endpoint)  # type: ignore[arg-type]
    made = portable.document(Line(command=prepared.command()), session._names(prepared))
    assert made.command == (
        "CACHE=./cache HF_MODULES_CACHE=START/model/modules python -m server --model-path=DIR --port 1"
    )
