"""The document in every form: typed, JUnit XML, SARIF; differences grouped by kind and layer."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console
from running import ROOT
from verify.making import W1, W2, Tensors, Verified, make_checkpoint

from proofcard import documents
from proofcard.config.schema import VerifyConfig
from proofcard.digest import readable_json
from proofcard.documents import Verification
from proofcard.documents.verification import json_schema
from proofcard.verify import run
from proofcard.verify.report import Finding, Level, document

FORMS = {"junit": "found.xml", "sarif": "found.sarif"}


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Two linears of one layer and a tensor outside every layer are not the source's; it was never sealed."""

    def change(tensors: Tensors) -> None:
        for name in (f"{W1}.weight", f"{W2}.weight", "model.norm.weight"):
            tensors[name][1].reshape(-1)[3] ^= 1

    folder = make_checkpoint(tmp_path_factory.mktemp("harmed") / "checkpoint", source, change)
    (folder / "manifest.json").unlink()
    return folder


@pytest.fixture(scope="module")
def found(harmed: Path, source: Path) -> dict[str, Any]:
    """Every form of one outcome, by its setting."""
    where = {key: harmed.parent / name for key, name in FORMS.items()}
    report = harmed.parent / "report.json"
    config = VerifyConfig(checkpoint=harmed, source=source, levels=None, report=report, **where)
    assert run(config, Console(quiet=True)) == 1
    return {key: path.read_text() for key, path in (where | {"report": report}).items()}


def test_the_report_is_a_document(found: dict[str, Any], harmed: Path) -> None:
    read = documents.read(Verification, harmed.parent / "report.json")
    assert read.text() == found["report"]
    assert (read.result, read.kernels, read.checkpoint) == ("differs", "compiled", None)
    assert read.levels["integrity"].result == "not checked"
    assert (ROOT / "docs" / "verification.schema.json").read_text() == readable_json(json_schema())


def test_differences_are_grouped_by_kind_and_layer(found: dict[str, Any]) -> None:
    weights = json.loads(found["report"])["levels"]["weights"]["differences"]
    assert weights["groups"] == [
        {"kind": "mismatched", "where": "model.layers.1", "count": 2},
        {"kind": "mismatched", "where": "model.norm", "count": 1},
    ]
    assert {d["file"] for d in weights["listed"]} < {f"model-0000{n}-of-00002.safetensors" for n in (1, 2, 3)}


def test_many_of_a_group_are_counted_beyond_the_list() -> None:
    level = Level("weights")
    level.add(*(Finding("mismatched", "x", tensor=f"model.layers.{n % 3}.w.weight") for n in range(900)))
    level.group(Finding("extra", f"it is {n}", tensor=f"model.layers.7.e.{n}.w") for n in range(50))
    said = document([level]).levels["weights"].differences
    assert [(g.kind, g.where, g.count) for g in said.groups] == [
        *(("mismatched", f"model.layers.{n}", 300) for n in range(3)), ("extra", "model.layers.7", 50),
    ]  # fmt: skip
    assert (said.total, said.extra, said.mismatched, len(said.listed)) == (950, 50, 900, 200)


def test_junit(found: dict[str, Any]) -> None:
    suite = Xml.fromstring(found["junit"]).find("testsuite")
    assert suite is not None
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "2", "errors": "1", "skipped": "3",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failure = cases["mismatched in model.layers.1"].find("failure")
    assert failure is not None and failure.get("message") == "2 mismatched in model.layers.1"
    assert f"{W1}.weight: byte 3 is" in (failure.text or "") and f"{W2}.weight" in (failure.text or "")
    assert cases["structure"].find("failure") is None
    error = cases["integrity (not checked)"].find("error")
    assert error is not None and "never sealed" in (error.get("message") or "")


def test_sarif(found: dict[str, Any]) -> None:
    said = json.loads(found["sarif"])
    assert said["version"] == "2.1.0"
    (made,) = said["runs"]
    rules = [rule["id"] for rule in made["tool"]["driver"]["rules"]]
    for result in made["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"] == "weights/mismatched"
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"].endswith(".safetensors")
    names = [r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] for r in made["results"]]
    assert sorted(names) == sorted([f"{W1}.weight", f"{W2}.weight", "model.norm.weight"])
    (invocation,) = made["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "never sealed" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_what_strangers_wrote_stays_text(tmp_path: Path, pristine: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
    (folder / '<evil a="1">&\x1b[2J]]>').write_text("")
    where = {key: tmp_path / name for key, name in FORMS.items()}
    config = VerifyConfig(checkpoint=folder, source=None, levels=None, report=None, **where)
    assert run(config, Console(quiet=True)) == 1
    for path in where.values():
        assert "\x1b" not in path.read_text()
    Xml.fromstring(where["junit"].read_text())
    assert Verified(folder).status == 1
