"""The manifest of a sealed folder, field by field. docs/manifest.md is the specification in words."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, model_validator

from proofcard.documents.base import Document, Json, Sha256

SCHEMA = "proofcard/manifest/1"


def _inside(name: str) -> str:
    """A file's name relative to the sealed folder: POSIX, normal form, never out of it."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise ValueError(f"{name[:200]!r} is not a relative file name in normal form")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


class FileEntry(Document):
    """A sealed file: its size in bytes and the sha256 of its bytes."""

    size: NonNegativeInt
    sha256: Sha256


class TensorEntry(Document):
    """A tensor of a sealed safetensors file: where it is, what it is, and the sha256 of its bytes."""

    file: FileName
    dtype: str
    shape: list[NonNegativeInt]
    sha256: Sha256


class Outputs(Document):
    """Everything that is sealed, the manifest itself excepted."""

    files: dict[FileName, FileEntry]
    tensors: dict[str, TensorEntry]

    @model_validator(mode="after")
    def _tensors_are_in_sealed_files(self) -> "Outputs":
        for name, tensor in self.tensors.items():
            if tensor.file not in self.files:
                raise ValueError(f"tensor {name[:200]!r} is in {tensor.file!r}, which is not sealed")
        return self


class Manifest(Document):
    """What was made, from what, by what."""

    schema_: Literal["proofcard/manifest/1"] = Field(alias="schema")
    stage: str
    key: Sha256
    config: dict[str, Json]
    seeds: dict[str, int]
    inputs: dict[str, Json]
    outputs: Outputs
    toolchain: dict[str, Json]
    platform: dict[str, Json]
    statistics: dict[str, Json]
    seal: Sha256

    @property
    def recipe(self) -> str | None:
        """What the recipe is called, if the configuration names one."""
        recipe = self.config.get("recipe")
        name = recipe.get("name") if isinstance(recipe, dict) else None
        return name if isinstance(name, str) else None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `manifest.json`, as docs/manifest.schema.json publishes it."""
    return {"$id": SCHEMA} | Manifest.model_json_schema(by_alias=True)
