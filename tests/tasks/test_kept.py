"""Answers of an interrupted run: found by everything that decides a request, and by nothing less."""

import os
from pathlib import Path
from typing import Any

from proofcard.config import compose
from proofcard.config.tasks import TasksConfig
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.target import Reachable
from proofcard.tasks.kept import Kept
from proofcard.tasks.resuming import done, place

REQUEST: dict[str, Any] = {"question": "a/1", "repeat": 0, "body": {"model": "m", "seed": 7}}


def test_an_answer_is_found_by_its_whole_request(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    kept = Kept(path)
    kept.add(REQUEST, ("56", "answered", 2))
    kept.add(REQUEST | {"repeat": 1}, ("57", "cut", None))
    again = Kept(path)
    assert again.get(REQUEST) == ("56", "answered", 2)
    assert again.get(REQUEST | {"repeat": 1}) == ("57", "cut", None)
    assert again.get(REQUEST | {"body": {"model": "m", "seed": 8}}) is None
    assert again.get(REQUEST | {"question": "a/2"}) is None and len(again) == 2


def test_a_line_that_was_not_finished_counts_as_not_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    Kept(path).add(REQUEST, ("56", "answered", 2))
    whole = path.read_text()
    for line in (whole[: len(whole) // 2], "[]\n", '{"request": 1}\n', whole.replace("answered", "nothing")):
        path.write_text(line)
        assert Kept(path).get(REQUEST) is None
    assert len(Kept(None)) == 0 and len(Kept(tmp_path / "nothing")) == 0


def config(folder: Path, *words: str) -> TasksConfig:
    servers = [f"reference.checkpoint={folder}", "candidate.endpoint=http://127.0.0.1:1/v1"]
    serving = "serving=transformers_cpu"
    return compose(
        TasksConfig, "tasks", [*servers, serving, "policy=demo", f"work_dir={folder / 'runs'}", *words]
    )


def test_answers_belong_to_a_checkpoint_and_its_profile(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    server = Reachable("", None, Endpoint("http://127.0.0.1:1/v1", "m", None, None, "", 0, Path(os.devnull)))
    usual = config(tmp_path)
    first = place(usual, usual.reference, server)
    assert first is not None and first == place(usual, usual.reference, server)
    assert place(usual, usual.candidate, server) is None
    vouched, never = config(tmp_path, "tasks.resume=true"), config(tmp_path, "tasks.resume=false")
    assert place(vouched, vouched.candidate, server) is not None
    assert place(never, never.reference, server) is None
    other = config(tmp_path, "serving.environment.OMP_NUM_THREADS=3")
    assert place(other, other.reference, server) != first
    (tmp_path / "config.json").write_text("[]")
    assert place(usual, usual.reference, server) != first
    done([first, None])
    assert not first.parent.exists()
