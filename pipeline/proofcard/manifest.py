"""The manifest of a sealed stage: what was made, from what, by what; sealed over its own canonical form.

Nothing in it tells a time, a host or a path, so the same work gives the same bytes. Its fields are those of
`documents.Manifest`.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proofcard import files, json_files
from proofcard.digest import readable_json, sha256_json
from proofcard.documents.base import fault
from proofcard.documents.manifest import SCHEMA, Manifest
from proofcard.errors import Stop

__all__ = ["NAME", "SCHEMA", "ManifestError", "NeverSealed", "key_of", "read", "seal", "sealed"]

NAME = "manifest.json"
_FIELDS = {field.alias or name for name, field in Manifest.model_fields.items()} - {"seal"}


class ManifestError(Stop):
    """A manifest that is missing, malformed or not what was sealed."""


class NeverSealed(ManifestError):
    """A folder without a manifest."""


def key_of(stage: str, config: Any, inputs: Any, toolchain: Any) -> str:
    """A stage's key: sha256 over everything that decides its bytes, the numeric platform excepted."""
    return sha256_json({"stage": stage, "config": config, "inputs": inputs, "toolchain": toolchain})


def seal(body: dict[str, Any]) -> str:
    """The text of `manifest.json`: the body and `seal`, the sha256 of the body's canonical form.

    Raises:
        ValueError: when a field of the schema is missing or an unknown one is given.
    """
    if body.keys() != _FIELDS:
        raise ValueError(f"manifest fields differ from the schema: {sorted(body.keys() ^ _FIELDS)}")
    return readable_json(body | {"seal": sha256_json(body)})


def sealed(body: dict[str, Any]) -> Manifest:
    """The manifest with this body, sealed.

    Raises:
        ValueError: when the body is not of the schema.
    """
    text = seal(body)
    return Manifest.model_validate(json_files.parse(text.encode(), NAME))


def read(directory: Path) -> Manifest:
    """The manifest of a sealed directory.

    Raises:
        NeverSealed: when it is absent.
        ManifestError: when it is no manifest, or any byte of it differs from what was sealed.
        Unreadable: when the system does not let it be read.
    """
    path = directory / NAME
    try:
        content = files.read_bytes(path, directory, json_files.TABLE)
    except FileNotFoundError:
        raise NeverSealed(f"{directory} has no {NAME}: it was never sealed") from None
    except files.Refused as error:
        raise ManifestError(str(error)) from None
    return parsed(content, str(path))


def parsed(content: bytes, path: str) -> Manifest:
    """The manifest that a file's bytes are; `path` is what messages call the file.

    Raises:
        ManifestError: when it is no manifest, or any byte of it differs from what was sealed.
    """
    try:
        values = json_files.parse(content, NAME)
    except json_files.JsonError as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    if not isinstance(values, dict) or "seal" not in values:
        raise ManifestError(f"{path} is not a manifest: it has no seal")
    body = {name: value for name, value in values.items() if name != "seal"}
    if values["seal"] != sha256_json(body) or content != readable_json(values).encode():
        raise ManifestError(f"{path} is not what was sealed: its digest over its own content differs")
    if values.get("schema") != SCHEMA:
        raise ManifestError(f"{path} has schema {values.get('schema')!r}; this version reads {SCHEMA!r}")
    try:  # anybody can make a seal anew over anything
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise ManifestError(f"{path} is not as this version writes them: {fault(error)}") from None
