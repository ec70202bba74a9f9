"""A checkpoint's tokenizer: the files it may read, which go into keys, and the one way to open it.

It is opened from a private copy with the files of `read_by` only, so that nothing else can affect a token.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofcard.checkpoint import remote_code
from proofcard.errors import Usage, one_line
from proofcard.progress import console

_NEVER_READ = (
    ".safetensors", ".index.json",
    ".csv", ".gif", ".html", ".jpeg", ".jpg", ".jsonl", ".log", ".md", ".mp3", ".mp4", ".parquet", ".pdf",
    ".png", ".svg", ".wav", ".webp",
    "license", "license.txt", "notice", "notice.txt", "requirements.txt", "usage_policy",
    "adapter_config.json", "generation_config.json", "hf_quant_config.json", "manifest.json",
    "preprocessor_config.json", "processor_config.json", "quantize_config.json", "trainer_state.json",
    "training_args.json", "video_preprocessor_config.json",
)  # fmt: skip
"""Suffixes of files that no tokenizer reads. Any other small file counts: some class may read it."""
_OF_CONFIG = ("architectures", "auto_map", "model_type", "tokenizer_class", "transformers_version")
"""Keys of config.json that a tokenizer reads: its class, and the transformers release that wrote it."""
_LARGEST = 128 << 20  # bytes; the largest tokenizer.json of a known model has 35 MB
_LARGEST_TEMPLATE = 4 << 20
_WORDS = ("added_tokens", "chat_template", "merges", "special_tokens", "tokenizer", "vocab")
_SPECIAL = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")


def read_by(folder: Path) -> dict[str, bytes]:
    """Every file that a tokenizer may read, by relative path; config.json only with the keys that it reads.

    Raises:
        Usage: when there are none, or one is larger than any tokenizer file.
    """
    paths = [path for path in sorted(folder.iterdir()) if _may_be_read(path)]
    if all(remote_code.is_importable(path.name) for path in paths):
        raise Usage(f"model.path={folder} has no tokenizer: it needs a tokenizer.json")
    files = {path.name: _content(path) for path in paths}
    for path in remote_code.templates(folder):
        files[path.relative_to(folder).as_posix()] = _content(path)
    if (folder / "config.json").is_file():
        files["config.json"] = _of_config(folder / "config.json")
    return files


def described(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """`{name: {"size": bytes, "sha256": hex}}` of the files that a tokenizer may read."""
    return {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }


def opened(folder: Path, pins: Mapping[str, str], expected: Mapping[str, Any] | None = None) -> Any:
    """The tokenizer of a checkpoint as AutoTokenizer opens it, with its own code only if that is pinned.

    If this transformers does not know the class, tokenizer.json alone is used. `expected` is what `described`
    returned when the work was planned.

    Raises:
        Usage: when it cannot be opened, or its files are not the expected ones.
    """
    files = read_by(folder)
    if expected is not None and described(files) != expected:
        raise Usage(f"the tokenizer in {folder} has changed since this command started: run it again")
    code = remote_code.read(folder)
    data = {name: content for name, content in files.items() if not remote_code.is_importable(name)}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if name in data:
            data[name] = _for_transformers_4(folder / name, data[name])
    name = folder.resolve().name
    remote_code.keep_modules_here()
    try:
        return _auto(remote_code.private_copy(data, name), trusted=False)
    except _CannotOpen as error:
        failure = error
    if not code.of_tokenizer() and "tokenizer.json" in data and not _class_is_known(data):
        console.print(
            f"{folder.name}: transformers does not know the tokenizer's class, using tokenizer.json alone",
            soft_wrap=True, markup=False,
        )  # fmt: skip
        try:
            return _general(remote_code.private_copy(data, name))
        except _CannotOpen as error:
            failure = error
    elif code.of_tokenizer() or code.of_model():
        pinned = code.pinned(pins, "model.remote_code")
        try:
            return _auto(remote_code.private_copy(data | pinned, name), trusted=True)
        except _CannotOpen as error:
            failure = error
    raise Usage(f"the tokenizer in {folder} cannot be opened: {failure}")


def copied(folder: Path, target: Path) -> None:
    """Copy the files that a tokenizer may read, without code, to `target` for another program to open.

    Raises:
        Usage: when there is no tokenizer, or its files refer to code that cannot be pinned.
    """
    remote_code.read(folder)
    files = read_by(folder)
    remote_code.write(
        {name: content for name, content in files.items() if not remote_code.is_importable(name)}, target
    )


class _CannotOpen(Exception):
    """A library's error, on one line."""


def _auto(folder: Path, trusted: bool) -> Any:
    from transformers import AutoTokenizer

    return _attempt(AutoTokenizer, folder, trust_remote_code=trusted)


def _general(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return _attempt(PreTrainedTokenizerFast, folder)


def _attempt(kind: Any, folder: Path, **options: Any) -> Any:
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True, **options)
        len(tokenizer)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is not an Exception
        raise _CannotOpen(one_line(error, folder=folder)) from None
    if not callable(tokenizer):
        raise _CannotOpen(f"{type(tokenizer).__name__} is not a tokenizer")
    return tokenizer


def _class_is_known(data: Mapping[str, bytes]) -> bool:
    """Whether the settings name a class for the tokenizer, and this transformers has it."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    for file in ("tokenizer_config.json", "config.json"):
        name = _json(Path(file), data.get(file, b"{}")).get("tokenizer_class")
        if isinstance(name, str):
            return any(tokenizer_class_from_name(token) is not None for token in (name, f"{name}Fast"))
    return False


def _may_be_read(path: Path) -> bool:
    name = path.name.lower()
    if name[0] == "." or name == "config.json" or name.endswith(_NEVER_READ) or remote_code.is_pickled(name):
        return False
    return path.is_file() and (name.startswith(_WORDS) or path.stat().st_size <= _LARGEST)


def _content(path: Path) -> bytes:
    template = path.suffix == ".jinja" or path.name.startswith("chat_template")
    largest = _LARGEST_TEMPLATE if template else _LARGEST
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise Usage(f"{path} is larger than {largest >> 20} MiB, too large for a tokenizer file: remove it")
    return content


def _of_config(file: Path) -> bytes:
    config = _json(file, _content(file))
    return json.dumps({key: config[key] for key in _OF_CONFIG if key in config}, sort_keys=True).encode()


def _for_transformers_4(file: Path, content: bytes) -> bytes:
    """A settings file written by transformers 5, as transformers 4 reads it.

    The list `extra_special_tokens` of transformers 5 is `additional_special_tokens` in transformers 4; its
    object `model_specific_special_tokens` is `extra_special_tokens`.
    """
    settings = _json(file, content)
    for key in _SPECIAL:
        if isinstance(settings.get(key), list):
            raise Usage(
                f"{file}: {key} is a list, but a tokenizer has only one such token: set it to that token"
            )
    changed = dict(settings)
    if isinstance(settings.get("extra_special_tokens"), list):
        listed = [*(settings.get("additional_special_tokens") or []), *changed.pop("extra_special_tokens")]
        changed["additional_special_tokens"] = [
            token for i, token in enumerate(listed) if token not in listed[:i]
        ]
    if isinstance(settings.get("model_specific_special_tokens"), dict):
        model_specific = changed.pop("model_specific_special_tokens")
        changed["extra_special_tokens"] = (changed.get("extra_special_tokens") or {}) | model_specific
    return content if changed == settings else json.dumps(changed).encode()


def _json(file: Path, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{file} is not valid JSON: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise Usage(f"{file} must be a JSON object")
    return value
