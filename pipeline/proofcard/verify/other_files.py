"""Files beside the weights, except tokenizers: generation settings, code, weights in other formats.

| file | may differ from the source's |
|---|---|
| *.py | nothing |
| generation_config.json | `_GENERATION_FREE`; `do_sample` that ModelOpt's export adds |
| tokenizers, processors, templates | what `tokenizers` says |

Weights in another format are findings: an engine may take them in place of what was checked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proofcard.verify import tokenizers
from proofcard.verify.config_comparison import differing_keys, text
from proofcard.verify.report import Finding, Level
from proofcard.verify.tokenizers import object_of, same_bytes

FOREIGN = (
    ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".npz", ".npy", ".pkl", ".pickle",
    ".joblib", ".tflite", ".mlmodel", ".tar", ".engine", ".nemo", ".distcp", ".ggml", ".pdparams",
)  # fmt: skip
_INSTEAD = ("adapter_config.json", "pytorch_model.bin.index.json", "tf_model.h5.index.json")
_OTHER_QUANTIZERS = ("quantize_config.json", "quant_config.json", "quantization_config.json")
COMPILED = (".pyc", ".so", ".pyd", ".dll")
_GENERATION = "generation_config.json"
_GENERATION_FREE = {"transformers_version", "_from_model_config"}
_IDS = {"bos_token_id", "eos_token_id", "pad_token_id"}


def check(folder: Path, source: Path | None, config: dict[str, Any], sealed: bool, level: Level) -> None:
    """Add to `level` what differs from the source's files, or what was not checked."""
    files = _names(folder)
    level.add(*_foreign(files))
    for name in sorted(files & set(_OTHER_QUANTIZERS)):
        if object_of(folder / name) == (config.get("quantization_config") or None):
            continue  # auto-round writes it twice
        level.unchecked.append(f"{name} is the configuration of another quantizer, which engines may read")
    level.add(*_readable(folder, files))
    level.add(*_named_code(config, files))
    if source is None:
        if not sealed:
            level.notes.append(
                "config.json, tokenizer, templates, generation settings and code were not compared: this "
                "needs source=DIR"
            )
        return
    theirs = _names(source)
    level.add(*_code(folder, source, files, theirs, bool(config.get("auto_map")), level))
    level.add(*_generation(folder, source, config, level))
    tokenizers.check(folder, source, files, theirs, level)


def _names(folder: Path) -> set[str]:
    """Files of a folder that an engine may read, by relative name; hidden folders hold caches."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts[:-1])}


def _foreign(files: set[str]) -> Iterator[Finding]:
    for name in sorted(files):
        at_top, low = "/" not in name, name.lower()
        if at_top and low.endswith(FOREIGN):
            why = "weights in another format: an engine may load them, but they are not checked"
            yield Finding("extra", why, file=name)
        elif low in _INSTEAD:
            yield Finding("extra", "with this file engines load other or additional weights", file=name)
        elif low.endswith(COMPILED):
            yield Finding("extra", "compiled code: it may run, but cannot be reviewed", file=name)


def _readable(folder: Path, files: set[str]) -> Iterator[Finding]:
    """What engines read as JSON is JSON."""
    known = {*tokenizers.READ, tokenizers.OLD_TEMPLATE, _GENERATION}
    for name in sorted(name for name in files & known if name.endswith(".json")):
        if isinstance(why := object_of(folder / name), str):
            yield Finding("mismatched", why, file=name)


def _named_code(config: dict[str, Any], files: set[str]) -> Iterator[Finding]:
    """Every file that `auto_map` names is there, and it names none elsewhere."""
    auto_map = config.get("auto_map")
    if auto_map is None:
        return
    if not isinstance(auto_map, dict):
        yield Finding("mismatched", f"auto_map is {text(auto_map)}", file="config.json")
        return
    for key, named in sorted(auto_map.items()):
        for name in named if isinstance(named, list) else [named]:
            if name is None:
                continue
            module, _, _ = name.rpartition(".") if isinstance(name, str) else ("", "", "")
            if not isinstance(name, str) or "--" in name or "/" in name or not module.isidentifier():
                message = f"auto_map names {text(name)} for {key}: code that is not in the checkpoint"
                yield Finding("mismatched", message, file="config.json")
            elif f"{module}.py" not in files:
                yield Finding("missing", f"config.json's auto_map names it for {key}", file=f"{module}.py")


def _code(
    folder: Path, source: Path, files: set[str], theirs: set[str], runs: bool, level: Level
) -> Iterator[Finding]:
    """`runs`: config.json names code. If not, a file that the source does not have is only a note."""
    ours, own = ({name for name in names if name.endswith(".py")} for names in (files, theirs))
    for name in sorted(ours | own):
        if name not in own:
            if runs or name.startswith("custom_generate/"):
                yield Finding("extra", "code that the source does not have", file=name)
            else:
                level.notes.append(
                    f"{name} is code that the source does not have; config.json does not refer to it"
                )
        elif name not in ours:
            if runs and "/" not in name:
                yield Finding(
                    "missing", "the source has this code, and config.json refers to code", file=name
                )
        elif not same_bytes(folder / name, source / name):
            yield Finding("mismatched", "it differs from the source's code", file=name)


def _generation(folder: Path, source: Path, config: dict[str, Any], level: Level) -> Iterator[Finding]:
    ours, theirs = object_of(folder / _GENERATION), object_of(source / _GENERATION)
    if isinstance(ours, str):
        return  # named already
    if isinstance(theirs, str):
        level.unchecked.append(f"the source's {_GENERATION}: {theirs}")
        return
    if ours is None:
        if set(theirs or {}) - _GENERATION_FREE - _IDS:
            yield Finding("missing", "the source has sampling settings", file=_GENERATION)
        elif theirs is not None:
            yield from _ids(theirs, config)
        return
    expected = {key: config[key] for key in _IDS if config.get(key) is not None} if theirs is None else theirs
    for key, have, want in differing_keys(ours, expected, _GENERATION_FREE):
        if theirs is None and key in _IDS and have is None:
            continue
        if key == "do_sample" and have is True and want is None:
            level.notes.append("generation_config.json sets do_sample, which the source does not")
            continue
        message = f"{key} is {text(have)}, the source's {text(want)}"
        yield Finding(
            "mismatched", message, file=_GENERATION, expected=text(want), found=text(have),
        )  # fmt: skip


def _ids(theirs: dict[str, Any], config: dict[str, Any]) -> Iterator[Finding]:
    for key in sorted(_IDS & theirs.keys()):
        if config.get(key) != theirs[key]:
            message = f"the source's {key} is {text(theirs[key])}, config.json's {text(config.get(key))}"
            yield Finding("missing", message, file=_GENERATION)
