"""The published format: its schema, what it refuses, and a folder sealed under schema 1."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from running import ROOT, command

from proofcard import manifest
from proofcard.digest import readable_json
from proofcard.documents import Manifest
from proofcard.documents.manifest import json_schema

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"


def golden() -> dict[str, Any]:
    body: dict[str, Any] = json.loads((GOLDEN / "checkpoint" / "manifest.json").read_text())
    return body


def test_the_published_schema_is_the_model_s() -> None:
    assert (ROOT / "docs" / "manifest.schema.json").read_text() == readable_json(json_schema())


def test_every_field_of_the_specification_is_a_field_of_the_model() -> None:
    text = (ROOT / "docs" / "manifest.md").read_text().split("## Fields")[1].split("`outputs.files` has")[0]
    named = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    fields = [field.alias or name for name, field in Manifest.model_fields.items()]
    assert sorted(named) == sorted(fields)


def test_a_folder_sealed_under_schema_1_is_still_read_and_verified(tmp_path: Path) -> None:
    body = golden()
    sealed = manifest.read(GOLDEN / "checkpoint")
    assert sealed == Manifest.model_validate(body)
    assert sealed.text().encode() == (GOLDEN / "checkpoint" / "manifest.json").read_bytes()
    paths = (f"checkpoint={GOLDEN / 'checkpoint'}", f"source={GOLDEN / 'source'}")
    verified = command("verify", *paths, f"report={tmp_path / 'report.json'}", cwd=tmp_path)
    assert (verified.returncode, verified.stdout.splitlines()[-1].split()[0]) == (0, "verified")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "proofcard/manifest/2"},
        {"key": "0" * 63},
        {"key": "A" * 64},
        {"seeds": {"torch": "1234"}},
        {"seeds": {"torch": 1.0}},
        {"statistics": []},
        {"extra": 1},
        {"outputs": {"files": {}, "tensors": {}, "more": {}}},
        {"outputs": {"files": {"../x": {"size": 1, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {"/etc/x": {"size": 1, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {"a//b": {"size": 1, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {"": {"size": 1, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {"x": {"size": -1, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {"x": {"size": True, "sha256": "0" * 64}}, "tensors": {}}},
        {"outputs": {"files": {}, "tensors": {"t": {"file": "x", "dtype": "U8", "shape": [], "sha256": "0" * 64}}}}, # noqa: E501
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(golden() | change)


@pytest.mark.parametrize("field", sorted(golden()))
def test_a_missing_field_is_refused(field: str) -> None:
    body = golden()
    del body[field]
    with pytest.raises(ValidationError, match=field):
        Manifest.model_validate(body)
