"""The command against servers that always say the same, that waver, and that fail."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import serving
from running import command

from proofcard.documents.repeat import RepeatReport

WORDS = ("tracking=off", "repeat.times=6", "repeat.users=3", "repeat.max_tokens=16", "repeat.prompt=Count.")
SAID = "one two three four"


def script(probe: Callable[[int], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The n-th request of the probe gets `probe(n)`, what keeps the server busy anything."""
    count = itertools.count(1)

    def reply(asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["temperature"] == 0
        if asked["messages"][0]["content"] != "Count.":
            return {"content": "busy"}
        return probe(next(count))

    return reply


@pytest.mark.parametrize(
    ("probe", "status", "finding"),
    [
        (lambda n: {"content": SAID}, 0, "REPEATABLE"),
        (lambda n: {"content": SAID if n != 9 else "one two 3 four"}, 1, "NOT REPEATABLE"),
        (lambda n: {"content": SAID, "reasoning_content": "hm" if n < 5 else "hmm"}, 1, "NOT REPEATABLE"),
        (lambda n: {"content": SAID} if n != 2 else {"status": 500}, 2, "NOT SHOWN"),
    ],
)
def test_the_exit_status_says_what_was_found(
    tmp_path: Path, probe: Callable[[int], dict[str, Any]], status: int, finding: str
) -> None:
    with serving(script(probe)) as url:
        said = command("repeat", f"endpoint={url}", *WORDS, cwd=tmp_path)
    assert said.returncode == status, said.stderr
    assert f"Repeatability: {finding}" in said.stdout
    (folder,) = (tmp_path / "runs/repeat").iterdir()
    found = RepeatReport.model_validate_json((folder / "repeat.json").read_text())
    assert found.finding == finding and found.phases["alone"].requests == found.phases["loaded"].requests == 6
    if "3 four" in str(probe(9)):
        assert found.phases["alone"].distinct == 1 and found.phases["loaded"].first.character == 8
        answers = json.loads((folder / "answers.json").read_text())
        assert answers["loaded"].count("one two 3 four") == 1


def test_a_server_that_is_gone_ends_it(tmp_path: Path) -> None:
    with serving(script(lambda n: {"status": 500})) as url:
        said = command("repeat", f"endpoint={url}", *WORDS, cwd=tmp_path)
    assert said.returncode == 2
    assert "5 requests failed one after the other, the last with: HTTP 500" in said.stderr
    assert list((tmp_path / "runs/repeat").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give either endpoint="),
        (["endpoint=http://127.0.0.1:1/v1", "tokenizer=."], "tokenizer=. has no tokenizer.json"),
        (["endpoint=http://127.0.0.1:1"], "should end in /v1"),
        (["endpoint=http://127.0.0.1:1/v1"], "cannot be reached (connection refused): start the server"),
        (["endpoint=http://127.0.0.1:1/v1", "repeat.times=1"], "repeat.times=1: it must be"),
        (
            ["endpoint=http://127.0.0.1:1/v1", "model=x", "api_key_file=/nowhere"],
            "api_key_file=/nowhere does not exist",
        ),
    ],
)
def test_a_bad_request_asks_nothing(tmp_path: Path, words: list[str], sentence: str) -> None:
    said = command("repeat", *words, cwd=tmp_path)
    assert said.returncode == 2
    assert sentence in said.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with serving(script(lambda n: {"content": SAID})) as url:
        said = command("repeat", f"endpoint={url}", "tokenizer=.", *WORDS, cwd=tmp_path)
    assert said.returncode == 2 and "cannot be read as a tokenizer" in said.stderr
