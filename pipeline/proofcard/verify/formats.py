"""The outcome of a verification for pipelines: JUnit where tests are shown, SARIF 2.1.0 for code scanning.

Both are made of the document alone; whatever is in it is text on one line already.
"""

import hashlib
from typing import Any
from xml.etree import ElementTree as Xml

from proofcard import __version__
from proofcard.digest import readable_json
from proofcard.documents.verification import Difference, LevelOutcome, Verification

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_KINDS = ("missing", "extra", "mismatched")


def as_junit(outcome: Verification) -> str:
    """One suite; a level that holds is one test that passes, one that differs a failing test for each group.

    What could not be checked is an error; a level that was not requested is skipped.
    """
    suite = Xml.Element("testsuite", name="proofcard verify")
    for name, level in outcome.levels.items():
        _cases(suite, name, level)
    counts = {
        "tests": len(suite),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    for key, count in counts.items():
        suite.set(key, str(count))
    suites = Xml.Element("testsuites", {"name": "proofcard verify"} | {k: str(c) for k, c in counts.items()})
    suites.append(suite)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def _cases(suite: Xml.Element, name: str, level: LevelOutcome) -> None:
    def case(what: str) -> Xml.Element:
        return Xml.SubElement(suite, "testcase", classname=f"proofcard.verify.{name}", name=what)

    if level.result == "not requested":
        Xml.SubElement(case(name), "skipped", message=level.not_requested or "")
    if level.result == "holds":
        case(name)
    for group in level.differences.groups:
        those = [d for d in level.differences.listed if d.kind == group.kind]
        text = "\n".join(f"{_where(d)}: {_sentence(d)}" for d in those if _lies_in(d, group.where))
        message = f"{group.count} {group.kind} in {group.where}"
        failure = Xml.SubElement(case(f"{group.kind} in {group.where}"), "failure", message=message)
        failure.set("type", group.kind)
        failure.text = text or message
    if level.unchecked.total:
        first, total = level.unchecked.listed[0], level.unchecked.total
        error = Xml.SubElement(case(f"{name} (not checked)"), "error", message=first, type="not checked")
        error.text = "\n".join(level.unchecked.listed) + (f"\n{total} in all" if total > 1 else "")


def as_sarif(outcome: Verification) -> str:
    """One run; a result for each listed difference, notifications for what could not be checked."""
    rules = [
        {
            "id": f"{name}/{kind}",
            "shortDescription": {"text": f"level {name}: {kind}"},
            "defaultConfiguration": {"level": "error"},
        }
        for name in outcome.levels
        for kind in _KINDS
    ]
    places = {str(rule["id"]): at for at, rule in enumerate(rules)}
    results = [
        _result(f"{name}/{difference.kind}", difference, places)
        for name, level in outcome.levels.items()
        for difference in level.differences.listed
    ]
    unchecked = [
        {"level": "error", "message": {"text": f"{name}: not checked: {sentence}"}}
        for name, level in outcome.levels.items()
        for sentence in level.unchecked.listed
    ]
    run = {
        "tool": {"driver": {"name": "proofcard", "semanticVersion": __version__, "rules": rules}},
        "invocations": [
            {"executionSuccessful": not unchecked, "toolExecutionNotifications": unchecked},
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {
            "result": outcome.result,
            "checkpoint": outcome.checkpoint,
            "source": outcome.source,
            "differences": {name: level.differences.total for name, level in outcome.levels.items()},
        },
    }
    return readable_json({"$schema": _SARIF, "version": "2.1.0", "runs": [run]})


def _result(rule: str, difference: Difference, places: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(difference.file or "config.json")}}
    place: dict[str, Any] = {"physicalLocation": location}
    if difference.tensor is not None:
        place["logicalLocations"] = [{"fullyQualifiedName": difference.tensor, "kind": "resource"}]
    words = f"{rule}\0{difference.file}\0{difference.tensor}"
    return {
        "ruleId": rule,
        "ruleIndex": places[rule],
        "level": "error",
        "message": {"text": f"{_where(difference)}: {_sentence(difference)}"},
        "locations": [place],
        "partialFingerprints": {"place/v1": hashlib.sha256(words.encode()).hexdigest()},
        "properties": difference.model_dump(mode="json", exclude={"message", "kind"}, exclude_none=True),
    }


def _uri(file: str) -> str:
    from urllib.parse import quote

    return quote(file)


def _where(difference: Difference) -> str:
    return difference.tensor or difference.file or "the checkpoint"


def _lies_in(difference: Difference, place: str) -> bool:
    where = _where(difference)
    return where == place or where.startswith(f"{place}.")


def _sentence(difference: Difference) -> str:
    return f"{difference.message} (likely: {difference.cause})" if difference.cause else difference.message
