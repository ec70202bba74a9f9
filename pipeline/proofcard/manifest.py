"""The manifest of a sealed stage: what was made, from what, by what; sealed over its own canonical form.

Nothing in it tells a time, a host or a path, so the same work gives the same bytes.
"""

import json
from pathlib import Path
from typing import Any

from proofcard.digest import readable_json, sha256_json
from proofcard.errors import Stop

NAME = "manifest.json"
SCHEMA = "proofcard/manifest/1"
_FIELDS = {
    "schema", "stage", "key", "config", "seeds", "inputs", "outputs", "toolchain", "platform", "statistics",
}  # fmt: skip


class ManifestError(Stop):
    """A manifest that is missing, malformed or not what was sealed."""


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


def read(directory: Path) -> dict[str, Any]:
    """The manifest of a sealed directory, without its `seal`.

    Raises:
        ManifestError: when it is absent, is no manifest, or any byte of it differs from what was sealed.
    """
    path = directory / NAME
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ManifestError(f"{directory} has no {NAME}: it was never sealed") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from None
    try:
        body = json.loads(text)
        sealed = body.pop("seal")
        genuine = sealed == sha256_json(body) and text == readable_json(body | {"seal": sealed})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    if not genuine:
        raise ManifestError(f"{path} is not what was sealed: its digest over its own content differs")
    if body.get("schema") != SCHEMA or body.keys() != _FIELDS:
        raise ManifestError(f"{path} has schema {body.get('schema')!r}; this version reads {SCHEMA!r}")
    return body
