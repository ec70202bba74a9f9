"""The manifest of a sealed stage: what was made, from what, by what; sealed over its own canonical form.

It contains no time, host or path, so the same work gives the same bytes. Its fields are those of
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
    """A manifest that is missing, malformed or altered."""


class NeverSealed(ManifestError):
    """A folder without a manifest."""


def key_of(stage: str, config: Any, inputs: Any, toolchain: Any) -> str:
    """A stage's key: sha256 over everything that decides its bytes, except the numeric platform."""
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
        ValueError: when the body does not match the schema.
    """
    text = seal(body)
    return Manifest.model_validate(json_files.parse(text.encode(), NAME))


def read(directory: Path) -> Manifest:
    """The manifest of a sealed directory.

    Raises:
        NeverSealed: when it is missing.
        ManifestError: when it is not a manifest, or any byte of it was altered.
        Unreadable: when it may not be read.
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
        ManifestError: when it is not a manifest, or any byte of it was altered.
    """
    try:
        values = json_files.parse(content, NAME)
    except json_files.JsonError as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    if not isinstance(values, dict) or "seal" not in values:
        raise ManifestError(f"{path} is not a manifest: it has no seal")
    body = {name: value for name, value in values.items() if name != "seal"}
    if values["seal"] != sha256_json(body) or content != readable_json(values).encode():
        raise ManifestError(f"{path} was altered: the seal does not match its content")
    if values.get("schema") != SCHEMA:
        raise ManifestError(f"{path} has schema {values.get('schema')!r}; this version reads {SCHEMA!r}")
    try:  # anybody can compute a seal over any content
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise ManifestError(f"{path} is not a valid manifest of this version: {fault(error)}") from None
