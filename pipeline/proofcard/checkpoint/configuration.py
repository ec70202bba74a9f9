"""A checkpoint's own word on itself: config.json and hf_quant_config.json, and the quantization they name."""

from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.errors import Stop

CONFIG, QUANTIZATION = "config.json", "hf_quant_config.json"


def read_settings(folder: Path, name: str = CONFIG, shown: str | None = None) -> dict[str, Any]:
    """A file of settings of a model; `Infinity`, which some of them hold, is a number.

    Raises:
        FileNotFoundError: when there is none.
        Stop: when it cannot be read; `shown` is what the message calls it.
    """
    return json_files.read(folder / name, folder, infinite=True, shown=shown)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises Stop when the folder has none that can be read."""
    try:
        return read_settings(folder)
    except FileNotFoundError:
        raise Stop(f"{folder} is no checkpoint folder: it has no config.json") from None


def read_quantization(folder: Path) -> dict[str, Any]:
    """hf_quant_config.json, empty where there is none. Raises Stop when it cannot be read."""
    try:
        return read_settings(folder, QUANTIZATION)
    except FileNotFoundError:
        return {}


def quantization_of(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration's quantization_config, empty where there is none. Raises Stop when it is no object."""
    said = config.get("quantization_config") or {}
    if not isinstance(said, dict):
        raise Stop(f"config.json of {path} has a quantization_config that is no object")
    return said


def declared(config: dict[str, Any], quantization: dict[str, Any]) -> tuple[str, str]:
    """The quantization that a checkpoint names: algorithm in capitals, method in small letters, or "".

    In config.json, at its top or for its text model, flat or in a part `quantization`; or in
    hf_quant_config.json, `quantization`.
    """
    places = [config, config.get("text_config"), {"quantization_config": quantization}]
    algorithm = method = ""
    for place in places:
        said = place.get("quantization_config") if isinstance(place, dict) else None
        for part in (said, said.get("quantization")) if isinstance(said, dict) else ():
            if isinstance(part, dict):
                algorithm = algorithm or str(part.get("quant_algo") or "").upper()
                method = method or str(part.get("quant_method") or "").lower()
    return algorithm, method
