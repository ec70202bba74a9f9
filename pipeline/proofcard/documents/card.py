"""A model card as values: every number with its origin and how it was established."""

from typing import Literal

from pydantic import Field

from proofcard.documents.base import Document, Json, Sha256

Mark = Literal["proven", "measured", "derived", "not measured"]
"""proven: `verify` or `reproduce` showed it, byte by byte. measured: by a run. derived: it follows from the
sealed manifest, the configuration or a plan. not measured: not checked yet."""


class Run(Document):
    """The tracked run that left a document; `link` is null where the store is a file of one machine."""

    id: str
    name: str
    link: str | None


class Quoted(Document):
    """A document that the card quotes: the file beside the card that is a copy of it, its digest, its run."""

    name: str
    kind: str
    schema_: str = Field(alias="schema")
    sha256: Sha256
    run: Run | None


class Value(Document):
    """One line: what, the value as it is shown, its mark, and `document#pointer` that it is read from."""

    name: str
    shown: str
    mark: Mark
    document: str
    pointer: str


class Table(Document):
    """Rows of text, all of one mark and from one place of one document."""

    title: str
    header: list[str]
    rows: list[list[str]]
    mark: Mark
    document: str
    pointer: str


class Chart(Document):
    """Lines over a common axis: `series` by name, null where a line has no point."""

    title: str
    name: str
    x: list[float]
    x_title: str
    y_title: str
    series: dict[str, list[float | None]]
    document: str


class Section(Document):
    """A part of the card. Without data, `command` is what fills it."""

    title: str
    intro: str
    lines: list[Value] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    charts: list[Chart] = Field(default_factory=list)
    code: list[str] = Field(default_factory=list)
    command: str | None = None


class Inputs(Document):
    """What the card says that is in no document: chosen when it was written, and kept for later checks."""

    title: str
    base_model: str | None
    repository: str | None
    license: str | None
    license_name: str | None
    license_link: str | None
    runs: dict[str, Run]


class Card(Document):
    """The card of the checkpoint `key`; README.md and README.html are other forms of it."""

    schema_: Literal["proofcard/card/1"] = Field(default="proofcard/card/1", alias="schema")
    key: Sha256
    recipe: str | None
    inputs: Inputs
    metadata: dict[str, Json]
    documents: list[Quoted]
    sections: list[Section]
