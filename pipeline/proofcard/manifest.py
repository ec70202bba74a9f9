"""The manifest of a sealed stage: what was made, from what, by what; sealed over its own canonical form.

Nothing in it tells a time, a host or a path, so the same work gives the same bytes.
"""

from pathlib import Path
from typing import Any

from proofcard import files, json_files
from proofcard.digest import readable_json, sha256_json
from proofcard.errors import Stop

NAME = "manifest.json"
SCHEMA = "proofcard/manifest/1"
_FIELDS = {
    "schema", "stage", "key", "config", "seeds", "inputs", "outputs", "toolchain", "platform", "statistics",
}  # fmt: skip


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


def read(directory: Path) -> dict[str, Any]:
    """The manifest of a sealed directory, without its `seal`.

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


def parsed(content: bytes, path: str) -> dict[str, Any]:
    """The manifest that a file's bytes are, without its `seal`; `path` is what messages call the file.

    Raises:
        ManifestError: when it is no manifest, or any byte of it differs from what was sealed.
    """
    try:
        body = json_files.parse(content, NAME)
    except json_files.JsonError as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    if not isinstance(body, dict) or "seal" not in body:
        raise ManifestError(f"{path} is not a manifest: it has no seal")
    sealed = body.pop("seal")
    genuine = sealed == sha256_json(body) and content == readable_json(body | {"seal": sealed}).encode()
    if not genuine:
        raise ManifestError(f"{path} is not what was sealed: its digest over its own content differs")
    if body.get("schema") != SCHEMA or body.keys() != _FIELDS:
        raise ManifestError(f"{path} has schema {body.get('schema')!r}; this version reads {SCHEMA!r}")
    if fault := _fault(body):
        raise ManifestError(f"{path} is not as this version writes them: {fault}")
    return body


def recipe_name(body: dict[str, Any]) -> str | None:
    """What a manifest calls its recipe, if it names one."""
    recipe = body["config"].get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else None
    return name if isinstance(name, str) else None


def _fault(body: dict[str, Any]) -> str | None:
    """What is not of the form that is written here: anybody can make a seal anew over anything."""
    texts, tables = ("stage", "key"), _FIELDS - {"schema", "stage", "key"}
    wrong = [name for name in texts if not isinstance(body[name], str)]
    wrong += sorted(name for name in tables if not isinstance(body[name], dict))
    if wrong:
        return f"{wrong[0]} is of another type"
    outputs: dict[str, Any] = body["outputs"]
    for part, check in (("files", _is_file), ("tensors", _is_tensor)):
        listed = outputs.get(part)
        if not isinstance(listed, dict):
            return f"it lists no {part}"
        for name, said in listed.items():
            if not isinstance(said, dict) or not check(name, said):
                return f"its outputs do not describe {files.plain(name)!r}"
    return None


def _is_file(name: str, said: dict[str, Any]) -> bool:
    inside = not {"", ".", ".."} & set(name.split("/")) and "\0" not in name
    return inside and _is_count(said.get("size")) and isinstance(said.get("sha256"), str)


def _is_tensor(_: str, said: dict[str, Any]) -> bool:
    shape = said.get("shape")
    texts = all(isinstance(said.get(key), str) for key in ("file", "dtype", "sha256"))
    return texts and isinstance(shape, list) and all(map(_is_count, shape))


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
