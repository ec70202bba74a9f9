"""The tokenizer: everything it may read is in the key, and one function opens it, or says why not."""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from running import add_tokenizer
from transformers import AutoTokenizer

from proofcard.calibration import sample_set, tokenizer
from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Usage
from proofcard.manifest import key_of

MODEL = Path(__file__).parents[2] / "demo/model"
TEXT = "What is 7 times 8?<|end|>\n<|tool|> é 🙂"
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
OWN_CODE = """\
from transformers import PreTrainedTokenizerFast
class Own(PreTrainedTokenizerFast):
    own = True
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's tokenizer, and a config.json of a model that transformers knows."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(MODEL / name, folder / name)
    (folder / "config.json").write_text(json.dumps({"model_type": "of_its_own", "hidden_size": 8}))
    return folder


def edit(file: Path, *without: str, **values: Any) -> None:
    settings = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in settings.items() if key not in without}))


@cache
def demo() -> QuantizeConfig:
    return compose(QuantizeConfig, "config", [])


def key(model: Path) -> str:
    config = demo().model_copy(update={"model": demo().model.model_copy(update={"path": model})})
    return key_of("samples", **sample_set.describe(config))


READ = (
    "vocab.txt", "vocab.json", "merges.txt", "tiktoken.model", "spiece.model", "tokenizer.model",
    "tekken.json", "sentencepiece.bpe.model", "qwen.tiktoken", "added_tokens.json", "tokenization_own.py",
    "bpe.codes", "dict.x", "additional_chat_templates/tool_use.jinja", "chat_template.json", "emoji.list",
)  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_whatever_a_tokenizer_may_read_is_in_the_key(model: Path, name: str) -> None:
    before = key(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    added = key(model)
    (model / name).write_text('{"a": 1}')
    assert len({before, added, key(model)}) == 3


@pytest.mark.parametrize("name", FILES)
def test_its_usual_files_are_in_the_key(model: Path, name: str) -> None:
    before = key(model)
    (model / name).write_text((model / name).read_text() + " ")
    assert key(model) != before


@pytest.mark.parametrize("values", [{"model_type": "mistral"}, {"tokenizer_class": "X"}, {"auto_map": {}}])
def test_of_config_json_the_class_is_in_the_key(model: Path, values: dict[str, Any]) -> None:
    before = key(model)
    edit(model / "config.json", **values)
    assert key(model) != before


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", "generation_config.json", "model.safetensors", "pytorch_model.bin", ".x"]
)
def test_what_no_tokenizer_reads_is_not(model: Path, name: str) -> None:
    before = key(model)
    (model / name).write_text("{}")
    edit(model / "config.json", hidden_size=16, rope_theta=1e4)
    assert key(model) == before


def test_the_private_copy_holds_only_what_is_in_the_key(model: Path) -> None:
    for name in ("README.md", "pytorch_model.bin", "evil.py", "generation_config.json"):
        (model / name).write_text("{}")
    folder = Path(tokenizer.opened(model, {}).name_or_path)
    assert {path.name for path in folder.iterdir()} == {*FILES, "config.json"}


def test_a_tokenizer_that_changes_after_the_plan_is_not_used(model: Path) -> None:
    planned = tokenizer.described(tokenizer.read_by(model))
    edit(model / "tokenizer_config.json", eos_token="<|begin|>")
    with pytest.raises(Usage, match="has changed since this command started"):
        tokenizer.opened(model, {}, planned)


@pytest.mark.parametrize("folder", [MODEL, None])
def test_the_tokens_are_those_of_autotokenizer(folder: Path | None, tmp_path: Path) -> None:
    if folder is None:
        folder = tmp_path
        add_tokenizer(folder)
    ours, theirs = tokenizer.opened(folder, {}), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours(TEXT) == theirs(TEXT)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template


WRITTEN_BY_5: tuple[dict[str, Any], ...] = (
    {"tokenizer_class": "TokenizersBackend"},
    {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|system|>"], "backend": "tokenizers"},
    {"extra_special_tokens": ["<|system|>", {"content": "<|user|>", "__type": "AddedToken"}]},
    {"extra_special_tokens": []},
    {"model_specific_special_tokens": {"image_token": "<|user|>"}, "tokenizer_class": "TokenizersBackend"},
    {"tokenizer_class": "SomethingOfNextYear"},
    {"tokenizer_class": None},
)  # fmt: skip


@pytest.mark.parametrize("values", WRITTEN_BY_5)
def test_what_transformers_5_writes_gives_the_same_tokens(model: Path, values: dict[str, Any]) -> None:
    expected = AutoTokenizer.from_pretrained(MODEL)(TEXT)["input_ids"]
    edit(model / "tokenizer_config.json", "additional_special_tokens", "added_tokens_decoder", **values)
    (model / "special_tokens_map.json").unlink()
    words = tokenizer.opened(model, {})
    assert words(TEXT)["input_ids"] == expected
    assert (words.eos_token, words.pad_token) == ("<|end|>", "<|end|>")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer_config.json"])
def test_tokenizer_json_is_enough(model: Path, missing: str) -> None:
    (model / missing).unlink()
    edit(model / "special_tokens_map.json")
    assert (
        tokenizer.opened(model, {})("What")["input_ids"]
        == AutoTokenizer.from_pretrained(MODEL)("What")["input_ids"]
    )


@pytest.mark.parametrize(
    ("file", "values", "sentence"),
    [
        ("tokenizer_config.json", {"eos_token": ["<|end|>", "<|begin|>"]}, "eos_token is a list"),
        ("special_tokens_map.json", {"pad_token": ["<|end|>"]}, "pad_token is a list"),
        ("tokenizer_config.json", {"eos_token": 3}, "cannot be opened: "),
        ("tokenizer_config.json", {"additional_special_tokens": 3}, "cannot be opened: "),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "y"}}, "cannot be opened: "),
        ("tokenizer_config.json", {"tokenizer_class": "AutoModelForCausalLM"}, "cannot be opened: "),
        ("tokenizer_config.json", {"tokenizer_class": "pipeline"}, "cannot be opened: "),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaConfig"}, "cannot be opened: "),
        ("tokenizer_config.json", {"tokenizer_class": "os.system"}, "not a class name"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}, "cannot be opened: "),
        ("tokenizer.json", {"model": 3}, "cannot be opened: "),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_one_sentence(
    model: Path, file: str, values: dict[str, Any], sentence: str
) -> None:
    edit(model / file, **values)
    with pytest.raises(Usage, match=sentence) as refusal:
        tokenizer.opened(model, {})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
@pytest.mark.parametrize(
    "file", ["tokenizer_config.json", "tokenizer.json", "config.json", "special_tokens_map.json"]
)
def test_files_that_are_no_json_are_one_sentence(model: Path, file: str, content: str) -> None:
    (model / file).write_text(content)
    with pytest.raises(Usage, match=r"is not valid JSON|must be a JSON object|cannot be opened: ") as refusal:
        tokenizer.opened(model, {})
    assert "\n" not in str(refusal.value)


def test_code_of_a_tokenizer_runs_when_it_is_pinned(model: Path) -> None:
    (model / "tokenization_own.py").write_text(OWN_CODE)
    edit(
        model / "tokenizer_config.json",
        tokenizer_class="Own",
        auto_map={"AutoTokenizer": [None, "tokenization_own.Own"]},
    )
    with pytest.raises(
        Usage, match=r"(?s)tokenization_own\.py would be run.*pin it under model\.remote_code"
    ):
        tokenizer.opened(model, {})
    pins = {"tokenization_own.py": hashlib.sha256(OWN_CODE.encode()).hexdigest()}
    words = tokenizer.opened(model, pins)
    assert words.own
    assert words(TEXT)["input_ids"] == AutoTokenizer.from_pretrained(MODEL)(TEXT)["input_ids"]


def test_a_file_of_an_unheard_of_size_is_refused_at_once(model: Path) -> None:
    with (model / "vocab.txt").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(Usage, match=r"vocab\.txt is larger than 128 MiB"):
        tokenizer.read_by(model)
    (model / "vocab.txt").unlink()
    with (model / "chat_template.jinja").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(Usage, match=r"chat_template\.jinja is larger than 4 MiB"):
        tokenizer.read_by(model)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "modeling.py").write_text("")
    with pytest.raises(Usage, match=r"has no tokenizer: it needs a tokenizer\.json"):
        tokenizer.read_by(tmp_path)
