"""Remote code: which Python files of a checkpoint may run, and folders from which only those can.

A checkpoint refers to code in its JSON files (mainly in `auto_map`), and a loader imports it: from the
folder, from a subfolder, or from a repository on the hub. Here only classes in Python files next to the JSON
are allowed, every file that Python could import must be pinned by its sha256 before any of them runs, and
loaders get private copies of the checked bytes, never the checkpoint's own folder.
"""

import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import all_suffixes
from pathlib import Path

from omegaconf import OmegaConf

from proofcard.bundle import bundled
from proofcard.checkpoint.references import CodeReference, references
from proofcard.errors import Usage

_IMPORTABLE = tuple({*all_suffixes(), ".py", ".pyc", ".pyo", ".pyd", ".pyw", ".so"})
_PICKLED = (
    ".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt",
    ".pth", ".egg", ".whl", ".zip", ".gguf", ".onnx",
)  # fmt: skip
"""Files of other formats: reading some of them runs code, and safetensors files replace them all."""
_NO_SETTINGS = (
    "tokenizer.json",
    "vocab.json",
    "manifest.json",
)  # large, and no loader reads a class name from them
_ELSEWHERE = ("adapter_config.json",)  # makes loaders open another model, on the hub or in another folder
_LARGEST_SETTINGS = 16 << 20  # bytes
_LARGEST_CODE = 16 << 20
TEMPLATES = "additional_chat_templates"
GENERATE = "custom_generate/generate.py"
"""A file that transformers runs instead of its own `generate`, even if nothing refers to it."""


@dataclass(frozen=True)
class Code:
    """A checkpoint's code and the references to it, read once: later changes of its folder have no effect.

    `settings` maps the names of top-level JSON files to their content; `named` are the references in them.
    """

    folder: Path
    settings: Mapping[str, bytes]
    named: tuple[CodeReference, ...]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Every file that Python could import, at any depth, by its relative path.

        `__pycache__` is skipped, here and in every private copy: installers and Python itself fill it, and
        nothing is ever loaded from it.
        """
        importable = {}
        for below, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                if name.lower().endswith(_IMPORTABLE):
                    path = Path(below) / name
                    importable[path.relative_to(self.folder).as_posix()] = _bytes(path, _LARGEST_CODE)
        return importable

    def of_model(self) -> bool:
        """Whether config.json refers to code that builds the model."""
        return any(named.settings == "config.json" for named in self.named)

    def of_tokenizer(self) -> bool:
        """Whether the tokenizer has its own code."""
        tokenizer = any(named.settings == "tokenizer_config.json" for named in self.named)
        return tokenizer or any(named.key.endswith(".AutoTokenizer") for named in self.named)

    def of_anything(self) -> bool:
        """Whether an inference server would run code of the checkpoint."""
        return bool(self.named) or GENERATE in self.files

    def pinned(self, pins: Mapping[str, str], setting: str) -> dict[str, bytes]:
        """Every file that Python could import, checked against its pin. `setting` is the key with the pins.

        Raises:
            Usage: for a file whose sha256 is not pinned, or a missing one that is pinned or referred to.
        """
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        beside = {
            name for name in pins if "/" not in name
        }  # only top-level files are downloaded from the hub
        for name in sorted(digests.keys() | beside):
            if digests.get(name) != pins.get(name):
                lines = "".join(
                    f'\n  {file}: "{digest}"  # {self.files[file].count(10) + 1} lines'
                    for file, digest in sorted(digests.items())
                )
                seen, pin = digests.get(name, "absent"), pins.get(name, "(nothing)")
                first = "read it, then" if name.lower().endswith((".py", ".pyw")) else "remove it, or"
                raise Usage(
                    f"{self.folder / name} would be run, but its sha256 is {seen}, not the pinned {pin}: "
                    f"{first} pin it under {setting}:{lines}{_pasted(setting, digests)}"
                )
        for named in self.named:
            if named.module not in digests:
                raise Usage(
                    f"{self.folder / named.settings}: {named.key} refers to {named.module}, which is "
                    "missing: copy it to the same folder, read it, and pin it"
                )
        return self.files


def _pasted(setting: str, digests: Mapping[str, str]) -> str:
    """One override that pins every file, to be pasted; nothing where a name cannot be part of one."""
    if not digests or any(re.fullmatch(r"[A-Za-z_][\w./-]*", name) is None for name in digests):
        return ""
    pins = ", ".join(f'{name}: "{digest}"' for name, digest in sorted(digests.items()))
    return f"\n  or, once all of it is read: {shlex.quote(f'{setting}={{{pins}}}')}"


def read(folder: Path) -> Code:
    """A checkpoint's code and the references to it; nothing is run.

    Raises:
        Usage: as `references`, and when a file is too large or not a regular file.
    """
    settings = {}
    for path in sorted(folder.iterdir()):
        if not _is_settings(path.name) or not path.is_file():
            continue
        if path.name == "config.json" or path.stat().st_size <= _LARGEST_SETTINGS:
            settings[path.name] = _bytes(path, _LARGEST_SETTINGS)
    named = [each for name, content in settings.items() for each in references(folder / name, content)]
    return Code(folder, settings, tuple(named))


def known_pins(code: Code) -> dict[str, str]:
    """The pins in `conf/model` of the model that shares most of these files; empty if none does."""
    digests = {(name, hashlib.sha256(content).hexdigest()) for name, content in code.files.items()}
    options = (OmegaConf.load(path) for path in sorted(bundled("conf/model").glob("*.yaml")))
    known = [dict(OmegaConf.select(option, "remote_code") or {}) for option in options]
    nearest = max(known, key=lambda pins: len(digests & pins.items()))
    return nearest if digests & nearest.items() else {}


def for_model(folder: Path, pins: Mapping[str, str]) -> tuple[Path, bool]:
    """A private folder with config.json and, if it refers to code, all code; and whether it does.

    Raises:
        Usage: when the code is not or cannot be pinned under `model.remote_code`.
    """
    code = read(folder)
    own_code = code.of_model()
    files = code.pinned(pins, "model.remote_code") if own_code else {}
    config = {"config.json": code.settings["config.json"]}
    return private_copy(config | files, folder.resolve().name), own_code


def private_copy(files: Mapping[str, bytes], name: str) -> Path:
    """A private folder below one called `name` that contains only these files, removed with this process.

    It is named after its content, since transformers treats modules in folders of one name as the same
    module.
    """
    digest = hashlib.sha256()
    for file, content in sorted(files.items()):
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    folder = _own_folder() / "copies" / name / digest.hexdigest()[:16]
    if not folder.exists():
        write(files, folder)
    return folder


def keep_modules_here() -> None:
    """Make transformers copy remote code to a new folder of this process.

    Its usual folder may already contain other code, and others may be able to write to it.
    """
    modules = str(_own_folder() / "modules")
    os.environ["HF_MODULES_CACHE"] = modules
    import transformers.dynamic_module_utils

    vars(transformers.dynamic_module_utils)["HF_MODULES_CACHE"] = modules  # already read on import


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files to their relative paths in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def for_engine(
    code: Code, allowed: Mapping[str, bytes], weights: Path, folder: Path, config: bytes | None = None
) -> None:
    """Fill `folder` with what an engine gets: the checkpoint, and of its code only what is `allowed`.

    JSON files, code and templates are copied, so that exactly the checked bytes are read; other files are
    symlinks, safetensors files to those in the folder `weights`. `config` replaces config.json. Pickles are
    skipped.
    """
    settings = {name: content for name, content in code.settings.items() if name.lower() not in _ELSEWHERE}
    if config is not None:
        settings["config.json"] = config
    write(settings | dict(allowed), folder)
    shards = (".safetensors", ".index.json")
    weight_files = [path for path in weights.iterdir() if path.name.endswith(shards) and path.is_file()]
    data = [path for path in code.folder.iterdir() if not path.name.endswith(shards)]
    for path in [*weight_files, *filter(_is_data, data)]:
        (folder / path.name).symlink_to(path.resolve())
    write(
        {f"{TEMPLATES}/{path.name}": _bytes(path, _LARGEST_CODE) for path in templates(code.folder)}, folder
    )


def templates(folder: Path) -> list[Path]:
    """The additional chat templates."""
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
    """Whether a loader might read a class name from a file of this name."""
    name = name.lower()
    weights_or_words = name in _NO_SETTINGS or name.endswith(".index.json")
    return name.endswith(".json") and name[0] != "." and not weights_or_words


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _own_folder() -> Path:
    """A temporary folder of this process, removed when it ends."""
    if not _kept:
        _kept.append(tempfile.TemporaryDirectory(prefix="proofcard-"))
    return Path(_kept[0].name)


def _bytes(path: Path, largest: int) -> bytes:
    if not path.is_file():
        raise Usage(f"{path} is not a regular file: remove it, or replace it by a copy of the file")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise Usage(f"{path} is larger than {largest >> 20} MiB, too large for a file of its kind: remove it")
    return content
