"""Compares tokenizer, processors and chat templates with the source's.

| file | may differ |
|---|---|
| tokenizer.json | layout, how merges are written, and the state when it was saved: `_STATE` |
| tokenizer_config.json | `_FREE`; class names that load one tokenizer.json; where its template is |
| what repeats tokenizer.json (`_REPEATED`) | it may be left out |
| other files that tokenizers and processors read | nothing |

A checkpoint with no tokenizer at all is left to its engine: a note.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.digest import sha256_file
from proofcard.errors import Stop, one_line
from proofcard.files import read_bytes
from proofcard.verify.config_comparison import differing_keys, text
from proofcard.verify.report import Finding, Level

READ = frozenset({
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "vocab.json", "merges.txt", "vocab.txt", "tiktoken.model", "tekken.json", "added_tokens.json",
    "special_tokens_map.json", "normalizer.json", "bpe.codes", "source.spm", "target.spm",
    "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
    "video_preprocessor_config.json", "feature_extractor_config.json",
})  # fmt: skip
TEMPLATE, OLD_TEMPLATE = "chat_template.jinja", "chat_template.json"
# They repeat what tokenizer.json holds.
_REPEATED = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "normalizer.json")
# Compared where both sides have them: transformers 5 spells them differently; tokenizer.json has them.
_RESPELLED = {
    "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "special_tokens_map",
}  # fmt: skip
_FREE = {
    "chat_template", "tokenizer_class", "transformers_version", "name_or_path", "special_tokens_map_file",
    "tokenizer_file", "processor_class", "padding_side", "backend", "is_local", "local_files_only",
    "init_inputs", "vocab_file", "merges_file", *_RESPELLED,
}  # fmt: skip
_STATE = {"version", "padding", "truncation"}
_PADS = ("eos_token", "unk_token")
_GENERAL_CLASSES = {"PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer", None}


_FIRST, _SECOND = ({"Sequence": {"id": which, "type_id": number}} for number, which in enumerate("AB"))
_NO_TOKEN = {
    "type": "TemplateProcessing", "single": [_FIRST], "pair": [_FIRST, _SECOND], "special_tokens": {},
}  # fmt: skip


def check(folder: Path, source: Path, files: set[str], theirs: set[str], level: Level) -> None:
    """Compare the files of `folder`, `files`, with `theirs` of `source`."""
    if not files & READ and theirs & READ:
        level.notes.append("it has no tokenizer: engines need the source's")
        if _template(folder) is not None:
            level.add(*_templates(folder, source, files))
        return
    if files & READ and not theirs & READ:
        level.notes.append("the source has no tokenizer: the checkpoint's was not compared")
        return
    if "tokenizer.json" in files - theirs:
        level.unchecked.append("tokenizer.json: the source has only a tokenizer in another format")
    for name in sorted(READ & (files | theirs)):
        level.add(*_one(folder, source, name, files, theirs))
    level.add(*_templates(folder, source, files | theirs))


def _one(folder: Path, source: Path, name: str, files: set[str], theirs: set[str]) -> Iterator[Finding]:
    if name not in files:
        if not (name in _REPEATED and "tokenizer.json" in files):
            yield Finding("missing", "the source has it, and engines read it", file=name)
        return
    if name not in theirs:
        if name != "tokenizer.json":
            yield Finding("extra", "the source does not have it, and engines read it", file=name)
        return
    if same_bytes(folder / name, source / name):
        return
    if not name.endswith(".json"):
        yield Finding("mismatched", "it differs from the source's", file=name)
        return
    ours, own = object_of(folder / name), object_of(source / name)
    if not isinstance(ours, dict) or not isinstance(own, dict):
        if isinstance(own, str):
            yield Finding("mismatched", f"the source's: {own}", file=name)
    elif name == "tokenizer.json":
        yield from _differences(name, _plain_form(ours), _plain_form(own), _STATE)
    elif name == "tokenizer_config.json":
        yield from _words(name, ours, own, _FREE)
        yield from _classes(ours, own, "tokenizer.json" in files)
    elif name == "special_tokens_map.json":
        yield from _words(name, ours, own, _RESPELLED)
    else:
        free = {"transformers_version", "name_or_path", "processor_class", "_auto_class"}
        yield from _differences(name, ours, own, free)


def _words(name: str, ours: dict[str, Any], own: dict[str, Any], free: set[str]) -> Iterator[Finding]:
    """Keys of a tokenizer's configuration."""
    for key, have, want in differing_keys(ours, own, free):
        if key == "pad_token" and _content(have) in [_content(own.get(k)) for k in _PADS]:
            continue  # calibration pads, and takes one of these where the source names none
        if _content(have) == _content(want) and _content(have) is not None:
            continue  # a token as its word alone, or with its flags
        if want is None and (have is False or have == [] or have == {}):
            continue
        message = f"{key} is {text(have)}, the source's {text(want)}"
        yield Finding("mismatched", message, file=name, expected=text(want), found=text(have))
    for key in sorted(_RESPELLED & ours.keys() & own.keys()):
        have, want = ours[key], own[key]
        if have != want and have and want and isinstance(have, type(want)):
            yield Finding("mismatched", f"{key} differs from the source's", file=name)


def _classes(ours: dict[str, Any], own: dict[str, Any], fast: bool) -> Iterator[Finding]:
    classes = {_plain_class(config.get("tokenizer_class")) for config in (ours, own)}
    if len(classes) > 1 and not (fast and classes & _GENERAL_CLASSES):
        message = (
            f"tokenizer_class is {ours.get('tokenizer_class')}, the source's {own.get('tokenizer_class')}"
        )
        yield Finding("mismatched", message, file="tokenizer_config.json")


def _plain_class(name: Any) -> Any:
    return name.removesuffix("Fast") if isinstance(name, str) and name not in _GENERAL_CLASSES else name


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _templates(folder: Path, source: Path, names: set[str]) -> Iterator[Finding]:
    ours, own = _template(folder), _template(source)
    if ours != own:
        what = "missing" if ours is None else "extra" if own is None else "mismatched"
        message = {
            "missing": "the source has a chat template",
            "extra": "the source has no chat template",
            "mismatched": "it differs from the source's chat template",
        }[what]
        yield Finding(what, message, file=TEMPLATE)  # type: ignore[arg-type]
    for name in sorted(name for name in names if name.endswith(".jinja") and name != TEMPLATE):
        if not (folder / name).is_file() or not (source / name).is_file():
            kind, message = ("missing", "the source has it") if (source / name).is_file() else ("extra", "")
            yield Finding(kind, message or "the source does not have it", file=name)  # type: ignore[arg-type]
        elif not same_bytes(folder / name, source / name):
            yield Finding("mismatched", "it differs from the source's", file=name)


def _template(folder: Path) -> Any:
    """The chat template that an engine uses: a separate file, else the tokenizer's; stripped."""
    path = folder / TEMPLATE
    if path.is_file():
        return read_bytes(path, folder, json_files.SETTINGS).decode(errors="replace").strip()
    for name in (OLD_TEMPLATE, "tokenizer_config.json"):
        settings = object_of(folder / name)
        if isinstance(settings, dict) and settings.get("chat_template") is not None:
            kept = settings["chat_template"]
            return kept.strip() if isinstance(kept, str) else kept
    return None


def _differences(name: str, ours: dict[str, Any], own: dict[str, Any], free: set[str]) -> Iterator[Finding]:
    for key, have, want in differing_keys(ours, own, free):
        message = f"{key} differs from the source's"
        yield Finding("mismatched", message, file=name, expected=text(want), found=text(have))


def _plain_form(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Merges as pairs; a post-processor that adds no token counts as none (transformers 5)."""
    processor = tokenizer.get("post_processor")
    if isinstance(processor, dict) and {key: processor.get(key) for key in _NO_TOKEN} == _NO_TOKEN:
        tokenizer = tokenizer | {"post_processor": None}
    return _plain_merges(tokenizer)


def _plain_merges(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Merges as pairs: older files write `"a b"`, newer ones `["a", "b"]`."""
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
        return tokenizer
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return tokenizer | {"model": model | {"merges": merges}}


def object_of(path: Path) -> dict[str, Any] | str | None:
    """A file's JSON object, why it is not one, or None without the file."""
    try:
        return json_files.read(path, path.parent, limit=json_files.TABLE, infinite=True, shown="it")
    except FileNotFoundError:
        return None
    except Stop as error:
        return one_line(error, checkpoint=path.parent)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    return one.stat().st_size == other.stat().st_size and sha256_file(one, one.parent) == sha256_file(
        other, other.parent
    )
