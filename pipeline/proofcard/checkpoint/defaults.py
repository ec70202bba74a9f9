"""The default of a model's configuration class for a key that config.json does not have.

For classes of the pinned transformers it comes from a table (written by `scripts/config_defaults.py`), for a
source with its own class from that class's source code. Nothing is imported or run.
"""

import ast
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = object()
"""Returned for a key that neither the table nor the source's own class has."""

_TABLE = Path(__file__).with_name("config_defaults.json")
_MOST_CODE = 1 << 20  # bytes; larger configuration_*.py files are not parsed

Config = Mapping[str, Any]


def default(config: Config, key: str, code: Path | None = None) -> Any:
    """The class's default for `key`, which is missing in `config`; `code` is a folder with its own class."""
    kind = config.get("model_type")
    if key == "head_dim" and (width := _quotient(config)) is not None and not _knows(config, key, code):
        return width
    if key == "num_key_value_heads" and not _knows(config, key, code):
        return config.get("num_attention_heads", UNKNOWN)
    if code is not None and key in (own := written(code, kind)):
        return own[key]
    table = _table()
    known = table.get(kind, {}) if isinstance(kind, str) else {}
    return known.get(key, table[""].get(key, UNKNOWN))


def tied(config: Config, code: Path | None = None) -> bool:
    """Whether a configuration ties the output head to the input embedding, by its flag or its class."""
    parts = [config, *(config[key] for key in ("text_config",) if isinstance(config.get(key), dict))]
    for part in parts:
        if isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return all(default(part, "tie_word_embeddings", code) is not False for part in parts)


def written(folder: Path, kind: Any) -> dict[str, Any]:
    """Defaults of the class for this model type in a folder's `configuration_*.py`.

    Only defaults written as constants count.
    """
    values: dict[str, Any] = {}
    for path in sorted(folder.glob("configuration*.py")):
        try:
            size, changed = path.stat().st_size, path.stat().st_mtime_ns
        except OSError:
            continue
        if path.is_file() and size <= _MOST_CODE:
            values |= _classes(path, size, changed).get(kind, {}) if isinstance(kind, str) else {}
    return values


def _knows(config: Config, key: str, code: Path | None) -> bool:
    kind = config.get("model_type")
    known = _table().get(kind, {}) if isinstance(kind, str) else {}
    given = written(code, kind) if code is not None else {}
    return given.get(key, known.get(key)) is not None


def _quotient(config: Config) -> int | None:
    size, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if isinstance(size, int) and isinstance(heads, int) and heads > 0:
        return size // heads
    return None


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


@cache
def _classes(path: Path, size: int, changed: int) -> dict[str, dict[str, Any]]:
    """`{model type: {parameter of __init__: its constant default}}`."""
    try:
        tree = ast.parse(path.read_bytes())
        return {kind: values for node in tree.body if (kind := _model_type(node)) for values in [_of(node)]}
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _model_type(node: ast.stmt) -> str | None:
    for line in node.body if isinstance(node, ast.ClassDef) else []:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        if isinstance(target, ast.Name) and target.id == "model_type":
            value = getattr(line, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    return None


def _of(node: ast.stmt) -> dict[str, Any]:
    assert isinstance(node, ast.ClassDef)
    defaults: dict[str, Any] = {}
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            named = line.args.args[len(line.args.args) - len(line.args.defaults) :]
            pairs = [*zip(named, line.args.defaults, strict=True)]
            pairs += [
                (a, v)
                for a, v in zip(line.args.kwonlyargs, line.args.kw_defaults, strict=True)
                if v is not None
            ]
            for argument, value in pairs:
                try:
                    defaults[argument.arg] = ast.literal_eval(value)
                except ValueError:
                    continue
    return defaults
