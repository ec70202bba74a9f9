"""Code that comes with a checkpoint: which files may run, and folders from which only these can.

A checkpoint names code in its JSON files (`auto_map` above all), and a loader imports what is named: from the
folder, from one below it, or from a repository of the hub. Here only a class of a Python file beside the JSON
may be named, every file that Python could import must be pinned by its sha256 before any of them runs, and
loaders are given private copies that hold the bytes that were checked, never the checkpoint's own folder.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import all_suffixes
from pathlib import Path

from omegaconf import OmegaConf

from proofcard.bundle import bundled
from proofcard.checkpoint.references import Named, references
from proofcard.errors import Usage

_IMPORTABLE = tuple({*all_suffixes(), ".py", ".pyc", ".pyo", ".pyd", ".pyw", ".so"})
_PICKLED = (
    ".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt",
    ".pth", ".egg", ".whl", ".zip", ".gguf", ".onnx",
)  # fmt: skip
"""Files of other formats: reading some of them runs code, and none is needed beside safetensors."""
_NO_SETTINGS = (
    "tokenizer.json",
    "vocab.json",
    "manifest.json",
)  # large, and no loader takes a class from them
_ELSEWHERE = ("adapter_config.json",)  # sends the loader to another model, on the hub or in another folder
_LARGEST_SETTINGS = 16 << 20  # bytes
_LARGEST_CODE = 16 << 20
TEMPLATES = "additional_chat_templates"
GENERATE = "custom_generate/generate.py"
"""A file that transformers runs instead of its own `generate`, whether or not anything names it."""


@dataclass(frozen=True)
class Code:
    """What a checkpoint says about code, read once: later changes of its folder change nothing.

    `settings` is the content of the JSON files at its top by name, `named` what they name.
    """

    folder: Path
    settings: Mapping[str, bytes]
    named: tuple[Named, ...]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Every file that Python could import, at any depth, by its relative path.

        `__pycache__` is left out, here and in every private copy: installers and Python itself fill it, and
        nothing is loaded from the folder where it is.
        """
        found = {}
        for below, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                if name.lower().endswith(_IMPORTABLE):
                    path = Path(below) / name
                    found[path.relative_to(self.folder).as_posix()] = _bytes(path, _LARGEST_CODE)
        return found

    def of_model(self) -> bool:
        """Whether config.json names code, which builds the model."""
        return any(named.settings == "config.json" for named in self.named)

    def of_tokenizer(self) -> bool:
        """Whether the tokenizer may be opened by code of its own."""
        tokenizer = any(named.settings == "tokenizer_config.json" for named in self.named)
        return tokenizer or any(named.key.endswith(".AutoTokenizer") for named in self.named)

    def of_anything(self) -> bool:
        """Whether a server that generates text would run code of the checkpoint."""
        return bool(self.named) or GENERATE in self.files

    def pinned(self, pins: Mapping[str, str], setting: str) -> dict[str, bytes]:
        """Every file that Python could import, held to its pin. `setting` is the key that holds the pins.

        Raises:
            Usage: for a file whose sha256 is not pinned, and for a missing one that is pinned or named.
        """
        found = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        beside = {name for name in pins if "/" not in name}  # the hub delivers what is at the top alone
        for name in sorted(found.keys() | beside):
            if found.get(name) != pins.get(name):
                lines = "".join(f'\n  {file}: "{digest}"' for file, digest in sorted(found.items()))
                seen, pin = found.get(name, "absent"), pins.get(name, "(nothing)")
                first = "read it, then" if name.lower().endswith((".py", ".pyw")) else "remove it, or"
                raise Usage(
                    f"{self.folder / name} would be run, and its sha256 is {seen}, not the pinned {pin}: "
                    f"{first} pin it under {setting}:{lines}"
                )
        for named in self.named:
            if named.module not in found:
                raise Usage(
                    f"{self.folder / named.settings}: {named.key} names code in {named.module}, which is not "
                    "beside it: copy it there, read it, and pin it"
                )
        return self.files


def read(folder: Path) -> Code:
    """What a checkpoint's folder says about code; nothing is run.

    Raises:
        Usage: as `references`, and when a file is too large or no regular file.
    """
    settings = {}
    for path in sorted(folder.iterdir()):
        if not _is_settings(path.name) or not path.is_file():
            continue
        if path.name == "config.json" or path.stat().st_size <= _LARGEST_SETTINGS:
            settings[path.name] = _bytes(path, _LARGEST_SETTINGS)
    named = [each for name, content in settings.items() for each in references(folder / name, content)]
    return Code(folder, settings, tuple(named))


def known_pins(found: Code) -> dict[str, str]:
    """The pins in `conf/model` of the model that shares most of these files; none if none does."""
    digests = {(name, hashlib.sha256(content).hexdigest()) for name, content in found.files.items()}
    options = (OmegaConf.load(path) for path in sorted(bundled("conf/model").glob("*.yaml")))
    known = [dict(OmegaConf.select(option, "remote_code") or {}) for option in options]
    nearest = max(known, key=lambda pins: len(digests & pins.items()))
    return nearest if digests & nearest.items() else {}


def for_model(folder: Path, pins: Mapping[str, str]) -> tuple[Path, bool]:
    """A private folder with config.json and, where it names code, all code; and whether it does.

    Raises:
        Usage: when the code is not pinned under `model.remote_code`, or could not be.
    """
    found = read(folder)
    own_code = found.of_model()
    files = found.pinned(pins, "model.remote_code") if own_code else {}
    config = {"config.json": found.settings["config.json"]}
    return private_copy(config | files, folder.resolve().name), own_code


def private_copy(files: Mapping[str, bytes], name: str) -> Path:
    """A folder below one called `name` that holds these files alone, closed to others, gone with us.

    It is called after its content: transformers takes modules of folders with one name for the same module.
    """
    digest = hashlib.sha256()
    for file, content in sorted(files.items()):
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    folder = _own_folder() / "copies" / name / digest.hexdigest()[:16]
    if not folder.exists():
        write(files, folder)
    return folder


def keep_modules_here() -> None:
    """Point transformers' own copies of a checkpoint's code at a fresh folder of this process.

    In a folder that others can write (a home, a working folder) other code might lie there already.
    """
    modules = str(_own_folder() / "modules")
    os.environ["HF_MODULES_CACHE"] = modules
    import transformers.dynamic_module_utils

    vars(transformers.dynamic_module_utils)["HF_MODULES_CACHE"] = modules  # it was read at import


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by their relative paths into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def for_engine(
    found: Code, allowed: Mapping[str, bytes], weights: Path, folder: Path, config: bytes | None = None
) -> None:
    """Make `folder` what an engine is given: the checkpoint, and of its code only what is `allowed`.

    JSON files, code and templates are copied, so that what was checked is what is read; other files are
    links, safetensors files to those of the folder `weights`. `config` takes the place of config.json.
    Pickles are left out.
    """
    settings = {name: content for name, content in found.settings.items() if name.lower() not in _ELSEWHERE}
    if config is not None:
        settings["config.json"] = config
    write(settings | dict(allowed), folder)
    shards = (".safetensors", ".index.json")
    weight_files = [path for path in weights.iterdir() if path.name.endswith(shards) and path.is_file()]
    data = [path for path in found.folder.iterdir() if not path.name.endswith(shards)]
    for path in [*weight_files, *filter(_is_data, data)]:
        (folder / path.name).symlink_to(path.resolve())
    write(
        {f"{TEMPLATES}/{path.name}": _bytes(path, _LARGEST_CODE) for path in templates(found.folder)}, folder
    )


def templates(folder: Path) -> list[Path]:
    """The chat templates beside the tokenizer's first one."""
    return sorted(path for path in (folder / TEMPLATES).glob("*.jinja") if path.is_file())


def is_importable(name: str) -> bool:
    """Whether Python could import a file of this name."""
    return name.lower().endswith(_IMPORTABLE)


def is_pickled(name: str) -> bool:
    """Whether a file of this name holds weights in another format than safetensors."""
    return name.lower().endswith(_PICKLED)


def _is_data(path: Path) -> bool:
    name = path.name.lower()
    if name[0] == "." or is_importable(name) or is_pickled(name) or _is_settings(name):
        return False
    return path.is_file()


def _is_settings(name: str) -> bool:
    """Whether a loader might take the name of a class from a file of this name."""
    name = name.lower()
    weights_or_words = name in _NO_SETTINGS or name.endswith(".index.json")
    return name.endswith(".json") and name[0] != "." and not weights_or_words


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _own_folder() -> Path:
    """A fresh folder of this process, removed at its end."""
    if not _kept:
        _kept.append(tempfile.TemporaryDirectory(prefix="proofcard-"))
    return Path(_kept[0].name)


def _bytes(path: Path, largest: int) -> bytes:
    if not path.is_file():
        raise Usage(f"{path} is no regular file: remove it, or put a copy of the file itself there")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise Usage(f"{path} is larger than {largest >> 20} MiB, which no file of its kind is: remove it")
    return content
