"""Write checkpoint/config_defaults.json: what a configuration class takes for a key that is not there.

    .venv/bin/python scripts/config_defaults.py

For every language model that the pinned transformers knows, and the parts of those that also see or hear, the
default of each key of config.json as the class itself gives it, one model type a line; under "" what every
class has. `verify` compares configurations with this table, and imports no transformers.
Left out: long lists and nested configurations, and what a class computes from its other keys.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

TARGET = Path(__file__).resolve().parents[1] / "pipeline" / "checkpoint" / "config_defaults.json"
LONGEST = 60  # characters of JSON


def main() -> None:
    """Ask every class."""
    base = _plain(transformers.PretrainedConfig().to_dict())
    table: dict[str, dict[str, Any]] = {}
    for kind in sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}):
        try:
            _add(table, CONFIG_MAPPING[kind](), base)
        except (KeyError, ValueError, TypeError) as error:
            print(f"{kind}: {error}")
    lines = [f'"": {json.dumps(base, sort_keys=True)}']
    lines += [f"{json.dumps(kind)}: {json.dumps(table[kind], sort_keys=True)}" for kind in sorted(table)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(table)} model types of transformers {transformers.__version__}: {TARGET}")


def _add(
    table: dict[str, dict[str, Any]], config: transformers.PretrainedConfig, base: dict[str, Any]
) -> None:
    """A class and the classes of its parts."""
    for part in vars(config).values():
        if isinstance(part, transformers.PretrainedConfig):
            _add(table, part, base)
    computed = _computed(config)
    own = {
        key: value
        for key, value in _plain(config.to_dict()).items()
        if base.get(key, ...) != value and key not in computed
    }
    if kind := own.pop("model_type", None):
        table.setdefault(kind, own)


def _computed(config: transformers.PretrainedConfig) -> set[str]:
    """Keys whose default follows from another key's value."""
    first, keys = config.to_dict(), set()
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "sliding_window"):
        if isinstance(first.get(key), int):
            with suppress(Exception):  # a class may refuse a value that does not fit the others
                other = type(config)(**{key: 2 * first[key]}).to_dict()
                keys |= {name for name in other.keys() & first.keys() - {key} if other[name] != first[name]}
    return keys


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    volatile = ("transformers_version", "_name_or_path")
    return {
        key: value
        for key, value in config.items()
        if key not in volatile and not (isinstance(value, (dict, list)) and len(json.dumps(value)) > LONGEST)
    }


if __name__ == "__main__":
    main()
