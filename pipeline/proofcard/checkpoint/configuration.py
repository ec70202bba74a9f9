"""A checkpoint's own configuration: config.json, hf_quant_config.json, and the quantization they declare."""

from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.errors import Stop

CONFIG, QUANTIZATION = "config.json", "hf_quant_config.json"


def read_settings(folder: Path, name: str = CONFIG, shown: str | None = None) -> dict[str, Any]:
    """A model's settings file; `Infinity`, which some contain, is accepted as a number.

    Raises:
        FileNotFoundError: when there is none.
        Stop: when it cannot be read; `shown` is its name in the message.
    """
    return json_files.read(folder / name, folder, infinite=True, shown=shown)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises Stop when it is missing or unreadable."""
    try:
        return read_settings(folder)
    except FileNotFoundError:
        raise Stop(f"{folder} is not a checkpoint folder: it has no config.json") from None


def read_quantization(folder: Path) -> dict[str, Any]:
    """hf_quant_config.json, empty if it is missing. Raises Stop when it cannot be read."""
    try:
        return read_settings(folder, QUANTIZATION)
    except FileNotFoundError:
        return {}


def quantization_of(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration's quantization_config, empty by default. Raises Stop when it is not an object."""
    declared_part = config.get("quantization_config") or {}
    if not isinstance(declared_part, dict):
        raise Stop(f"quantization_config in config.json of {path} is not a JSON object")
    return declared_part


def declared(config: dict[str, Any], quantization: dict[str, Any]) -> tuple[str, str]:
    """The declared quantization: algorithm in upper case, method in lower case, or "" for either.

    In config.json, at its top or for its text model, flat or in a part `quantization`; or in
    hf_quant_config.json, `quantization`.
    """
    places = [config, config.get("text_config"), {"quantization_config": quantization}]
    algorithm = method = ""
    for place in places:
        declared_part = place.get("quantization_config") if isinstance(place, dict) else None
        for part in (
            (declared_part, declared_part.get("quantization")) if isinstance(declared_part, dict) else ()
        ):
            if isinstance(part, dict):
                algorithm = algorithm or str(part.get("quant_algo") or "").upper()
                method = method or str(part.get("quant_method") or "").lower()
    return algorithm, method
