"""Whether a path that a user named is what its key needs; known before anything is read."""

from pathlib import Path

from proofcard.errors import Stop, Usage
from proofcard.files import plain, readable

MODELS = (
    "a", "b", "candidate.checkpoint", "checkpoint", "model.path", "reference.checkpoint", "source",
)  # fmt: skip
FOLDERS = ("activations", "calibration.frozen", "samples", "tokenizer")
FILES = ("api_key_file", "evaluation.text", "manifest", "serving.api_key_file", "texts")
"""Keys of inputs, by what they have to be; the same key means the same everywhere."""


def check_input(key: str, path: Path) -> None:
    """Check that a path exists and is what its key needs; a key of no input is not checked.

    Raises:
        Usage: naming key and path.
    """
    if key not in (*MODELS, *FOLDERS, *FILES):
        return
    try:
        with readable(path):
            (_check_file if key in FILES else _check_folder)(key, path)
    except FileNotFoundError:
        raise Usage(f"{plain(f'{key}={path}')} does not exist: check the path") from None
    except Usage:
        raise
    except Stop as stop:
        raise Usage(f"{key}: {stop}") from None


def _check_folder(key: str, path: Path) -> None:
    if not path.is_dir():
        path.stat()
        raise Usage(f"{plain(f'{key}={path}')} is a file: give a folder")
    if key in MODELS and not any(map(_is_of_a_model, path.iterdir())):
        raise Usage(
            f"{plain(f'{key}={path}')} is a folder without a model: none of its files is config.json, "
            "manifest.json or *.safetensors"
        )


def _is_of_a_model(file: Path) -> bool:
    weights = file.name.endswith((".safetensors", ".safetensors.index.json"))
    return weights or file.name in ("config.json", "manifest.json")


def _check_file(key: str, path: Path) -> None:
    if path.is_dir():
        raise Usage(f"{plain(f'{key}={path}')} is a folder: give a file")
    path.stat()
