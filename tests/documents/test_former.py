"""Documents of earlier versions, as a card and an audit read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from proofcard.documents.former import renamed
from proofcard.evidence import opened


@pytest.mark.parametrize(
    ("kind", "former", "now"),
    [
        ("benchmark/2", {"server": {"told": "x"}}, {"server": {"label": "x"}}),
        ("serving/1", {"settings": [{"asked": "a"}, {"asked": None}]},
         {"settings": [{"requested": "a"}, {"requested": None}]}),
        ("tasks/1", {"reference": {"told": "x"}, "candidate": {"told": "y"}},
         {"reference": {"label": "x"}, "candidate": {"label": "y"}}),
        ("agentic/1", {"server": {"told": "x"}}, {"server": {"label": "x"}}),
        ("repeat/1", {"server": {"told": "x"}, "phases": {"alone": {"asked": 3}}},
         {"server": {"label": "x"}, "phases": {"alone": {"requests": 3}}}),
        ("plan/1", {"server": {"told": "x"}}, {"server": {"told": "x"}}),
        ("benchmark/2", {"server": ["told"]}, {"server": ["told"]}),
        ("serving/1", {"settings": {"a": 1}}, {"settings": {"a": 1}}),
    ],
)  # fmt: skip
def test_a_field_gets_its_name_of_today(kind: str, former: dict[str, Any], now: dict[str, Any]) -> None:
    schema = {"schema": f"proofcard/{kind}"}
    assert renamed(schema | former) == schema | now
    assert renamed(schema | now) == schema | now


@pytest.mark.parametrize("value", [None, [], "x", {"schema": 3}, {}])
def test_what_is_no_document_stays_as_it_is(value: Any) -> None:
    assert renamed(value) == value


def test_evidence_has_the_names_of_today_and_the_file_s_own_text(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"schema": "proofcard/benchmark/2", "name": "demo", "server": {"told": "x"}}))
    one = opened(file, tmp_path)
    assert one is not None
    assert one.values["server"] == {"label": "x"}
    assert one.text == file.read_text()
