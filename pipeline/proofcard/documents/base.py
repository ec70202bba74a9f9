"""What all documents share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in lower-case hexadecimal."""


class Document(BaseModel):
    """A frozen JSON object with a closed set of fields, every value of exactly its declared type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
