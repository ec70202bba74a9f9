"""What all documents share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints, ValidationError

from proofcard import json_files
from proofcard.digest import readable_json
from proofcard.errors import Stop

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in lower-case hexadecimal."""

if TYPE_CHECKING:
    Json = Any
else:
    Json = JsonValue
"""Any JSON value, checked to be one. What is inside is looked at where it is used."""

Read = TypeVar("Read", bound="Document")


class Document(BaseModel):
    """A frozen JSON object with a closed set of fields, every value of exactly its declared type.

    A whole document has a field `schema_`, in JSON `schema`, with a default: `proofcard/NAME/VERSION`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def values(self) -> dict[str, Any]:
        """The document as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def text(self) -> str:
        """The document as the text of its file."""
        return readable_json(self.values())


class Difference(Document):
    """A value by its dotted name that two sides have otherwise; null where a side has none."""

    name: str
    a: Json
    b: Json


def read(kind: type[Read], path: Path, root: Path | None = None) -> Read:
    """A document from a file that anybody may have written. `root` is the folder that it has to be in.

    Raises:
        Stop: when the file is of another schema or is damaged.
        OSError: when it cannot be read.
    """
    values = json_files.read(path, root or path.parent)
    known = kind.model_fields["schema_"].default
    if values.get("schema") != known:
        raise Stop(f"{path} has schema {str(values.get('schema'))[:80]!r}; this version reads {known!r}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise Stop(f"{path} is not a whole {known}: {fault(error)}") from None


def fault(error: ValidationError) -> str:
    """The first thing that is wrong with a document, in a few words."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step)[:80] for step in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
