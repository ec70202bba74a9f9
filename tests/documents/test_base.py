"""What all documents share: a closed set of fields of exact types, and one way to read them."""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proofcard import documents
from proofcard.documents import Document, read
from proofcard.documents.fetched import Fetched, FetchedSamples
from proofcard.errors import Stop

SAMPLES = FetchedSamples(key="0" * 64, samples=3, tokens=9)
WHOLE = Fetched(recipe="demo", model=None, samples=SAMPLES)


def kinds() -> list[type[Document]]:
    """Every whole document of every module."""
    names = [module.name for module in pkgutil.iter_modules(documents.__path__)]
    modules = [importlib.import_module(f"proofcard.documents.{name}") for name in names]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return sorted(
        (kind for kind in classes if issubclass(kind, Document) and "schema_" in kind.model_fields),
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_document_names_itself_and_its_version(kind: type[Document]) -> None:
    field = kind.model_fields["schema_"]
    if field.annotation is str:  # it names another document
        return
    [schema] = field.annotation.__args__  # type: ignore[union-attr]
    assert (field.alias == "schema" and field.default in (schema, ...)) or field.is_required()
    assert schema.startswith("proofcard/") and schema.rpartition("/")[2].isdigit()
    assert kind.model_config["extra"] == "forbid" and kind.model_config["strict"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(WHOLE.text())
    assert read(Fetched, path) == WHOLE
    assert json.loads(WHOLE.text())["schema"] == "proofcard/fetched/1"
    assert WHOLE.text().endswith("}\n")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "proofcard/fetched/9"}, {"schema": None}, {"recipe": 7}, {"more": 1},
        {"samples": {"key": "0" * 64, "samples": "3", "tokens": 9}},
        {"samples": {"key": "x", "samples": 3, "tokens": 9}},
        {"samples": {"key": "0" * 64, "samples": -3, "tokens": 9}},
        {"samples": {"key": "0" * 64, "samples": True, "tokens": 9}},
    ],
)  # fmt: skip
def test_another_schema_and_a_damaged_document_are_one_sentence(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(WHOLE.values() | change))
    with pytest.raises(Stop, match=r"x\.json") as stop:
        read(Fetched, path)
    assert "\n" not in str(stop.value)


def test_what_is_no_json_or_outside_its_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[")
    with pytest.raises(Stop):
        read(Fetched, path)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.json").symlink_to(path)
    with pytest.raises(Stop):
        read(Fetched, tmp_path / "inside" / "link.json")


def test_a_number_is_finite_and_a_document_does_not_change() -> None:
    with pytest.raises(ValidationError):
        documents.base.Difference(name="x", a=float("nan"), b=None)
    with pytest.raises(ValidationError):
        WHOLE.recipe = "other"  # type: ignore[misc]
