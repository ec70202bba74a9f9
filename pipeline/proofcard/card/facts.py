"""What a card is made from: the sealed checkpoint, the documents about it, and what each proves."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proofcard import json_files
from proofcard import manifest as manifests
from proofcard.documents.base import fault
from proofcard.documents.card import Inputs, Mark, Quoted, Table, Value
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, one_line
from proofcard.evidence import Evidence
from proofcard.files import read_bytes
from proofcard.pasted import command

FOLDER = ".proofcard"
"""Beside the sealed files: copies of the documents that a card quotes, the card as values, its charts."""

MANIFEST = manifests.NAME
PROGRAM = "proofcard"
"""In the place of a document: what follows from this program's own files."""


@dataclass(frozen=True)
class Facts:
    """A checkpoint's manifest as JSON values, its settings files, and its documents by kind.

    `settings` is config.json, `generation` generation_config.json and `quantization` that part of
    hf_quant_config.json; each is empty unless it was sealed.
    """

    sealed: Manifest
    sha256: str
    settings: dict[str, Any]
    generation: dict[str, Any]
    quantization: dict[str, Any]
    documents: list[Evidence]
    inputs: Inputs

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that made it."""
        return self.sealed.config

    def all_of(self, kind: str) -> list[Evidence]:
        """Every document of a kind."""
        return [one for one in self.documents if one.kind == kind]

    def one(self, kind: str) -> Evidence | None:
        """The first document of a kind."""
        return next(iter(self.all_of(kind)), None)

    def levels(self) -> dict[str, str]:
        """The results of `verify` by level, if it checked this manifest."""
        one = self.one("verification")
        if one is None or one.values["manifest"].get("sha256") != self.sha256:
            return {}
        return {name: level["result"] for name, level in one.values["levels"].items()}

    def proven(self, level: str) -> Mark:
        """`proven` where that level of `verify` holds."""
        return "proven" if self.levels().get(level) == "holds" else "derived"

    def remade(self) -> Mark:
        """`proven` where the checkpoint was rebuilt from its manifest with the same bytes."""
        one = self.one("reproduction")
        return "proven" if one is not None and one.values["outcome"] == "reproduced" else "derived"

    def quoted(self) -> list[Quoted]:
        """The documents, as the card lists them."""
        return [
            Quoted(
                name=file_name(one), kind=one.kind, schema=one.schema, sha256=one.sha256,
                run=self.inputs.runs.get(file_name(one)),
            )
            for one in self.documents
        ]  # fmt: skip


@contextmanager
def whole(what: str) -> Iterator[None]:
    """A context in which an incomplete document is reported in one sentence; `what` is being written from it.

    Raises:
        Stop: naming what could not be written.
    """
    try:
        yield
    except ValidationError as error:
        reason = fault(error)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
    else:
        return
    raise Stop(
        f"{what} cannot be written, a document is incomplete ({reason}): make it again with the command that "
        "left it"
    )


def file_name(one: Evidence) -> str:
    """What the copy of a document is called in `FOLDER`."""
    if not one.name or one.kind == "plan":
        return f"{one.kind}.json"
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", one.name)[:80].strip("-")
    return f"{one.kind}-{plain}.json"


def read(checkpoint: Path, sealed: Manifest, documents: list[Evidence], inputs: Inputs) -> Facts:
    """Everything about a checkpoint; every sealed settings file is checked against its digest.

    Raises:
        Stop: when a sealed file was altered.
    """
    content = read_bytes(checkpoint / MANIFEST, checkpoint, json_files.TABLE)
    return Facts(
        sealed=sealed,
        sha256=hashlib.sha256(content).hexdigest(),
        settings=_sealed_json(checkpoint, sealed, "config.json"),
        generation=_sealed_json(checkpoint, sealed, "generation_config.json"),
        quantization=_sealed_json(checkpoint, sealed, "hf_quant_config.json").get("quantization", {}),
        documents=_named_once(documents),
        inputs=inputs,
    )


def _sealed_json(checkpoint: Path, sealed: Manifest, name: str) -> dict[str, Any]:
    entry = sealed.outputs.files.get(name)
    if entry is None:
        return {}
    content = read_bytes(checkpoint / name, checkpoint, json_files.SETTINGS)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise Stop(
            f"{checkpoint / name} is not what was sealed: see {command('verify', checkpoint=checkpoint)}"
        )
    values = json_files.parse(content, name, infinite=True)
    return values if isinstance(values, dict) else {}


def _named_once(documents: list[Evidence]) -> list[Evidence]:
    """Documents whose copies would have one name: the first stays."""
    named: dict[str, Evidence] = {}
    for one in documents:
        named.setdefault(file_name(one), one)
    return list(named.values())


def value(name: str, text: Any, mark: Mark, document: str, pointer: str) -> Value:
    """A line of the card; whole numbers with commas."""
    return Value(name=name, shown=written(text), mark=mark, document=document, pointer=pointer)


def written(value: Any) -> str:
    """A value as text for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return ", ".join(map(written, value)) if isinstance(value, list | tuple) else str(value)


def number(value: float | None) -> str:
    """Three digits that count; whole numbers from 100 on."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def size(count: int) -> str:
    """Bytes as people count them, and exactly."""
    return f"{short_size(count)} ({count:,} bytes)"


def short_size(count: int) -> str:
    """Bytes as people count them."""
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((f"{count / unit:.1f} {name}" for unit, name in units if count >= unit), f"{count} bytes")


def table(
    header: list[str], rows: list[list[Any]], mark: Mark, document: str, pointer: str, title: str = ""
) -> Table:
    """A table of the card."""
    text = [[written(cell) for cell in row] for row in rows]
    return Table(title=title, header=header, rows=text, mark=mark, document=document, pointer=pointer)
