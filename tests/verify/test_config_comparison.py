"""What stands beside the weights is the source's: config.json key by key, tokenizer, templates, code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verify.making import Verified, edit_json
from verify.tampered import CONFIG, make_pair

from proofcard.verify.config_comparison import Comparison

ONLY = ("structure",)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("furnished"))


@pytest.fixture
def pair(tmp_path: Path, furnished: tuple[Path, Path]) -> tuple[Path, Path]:
    """A source and its checkpoint with a tokenizer, a template, code and settings, without a seal."""
    source, made = (Path(shutil.copytree(one, tmp_path / one.name)) for one in furnished)
    (made / "manifest.json").unlink()
    return source, made


def messages(found: Verified) -> list[str]:
    return [f"{d['file']}: {d['message']}" for d in found.differences("structure")]


EDITS: dict[str, Any] = {
    "num_hidden_layers": 3, "num_local_experts": 4, "num_experts_per_tok": 1, "head_dim": 32,
    "rope_theta": 10000, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rotary_dim": 16,
    "auto_map": {"AutoConfig": "x.Y"},
    "hidden_size": 128, "intermediate_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "hidden_act": "gelu", "vocab_size": 81, "max_position_embeddings": 8192,
    "scoring_func": "softmax", "use_qk_norm": False, "attn_type_list": [0, 1], "sliding_window": 128,
    "tie_word_embeddings": True, "architectures": ["Other"], "model_type": "mixtral", "eos_token_id": 0,
    "bos_token_id": 2, "dtype": "float16", "rope_parameters": {"rope_type": "default", "rope_theta": 1.0},
    "partial_rotary_factor": 0.5, "num_experts": 7,
}  # fmt: skip


@pytest.mark.parametrize("key", EDITS)
def test_every_key_of_the_configuration_is_compared(pair: tuple[Path, Path], key: str) -> None:
    edit_json(pair[1] / CONFIG, lambda c: c.update({key: EDITS[key]}))
    found = Verified(pair[1], pair[0], ONLY)
    assert found.status == 1, found.screen
    assert any(message.startswith(f"{CONFIG}: ") for message in messages(found))


@pytest.mark.parametrize(
    "key", ["rope_theta", "auto_map", "num_local_experts", "scoring_func", "eos_token_id"]
)
def test_a_key_may_not_be_left_out(pair: tuple[Path, Path], key: str) -> None:
    edit_json(pair[1] / CONFIG, lambda c: c.pop(key))
    assert Verified(pair[1], pair[0], ONLY).status == 1


def test_an_empty_configuration_is_another_one(pair: tuple[Path, Path]) -> None:
    (pair[1] / CONFIG).write_text("{}")
    assert Verified(pair[1], pair[0], ONLY).status == 1


def test_a_key_that_nobody_knows_is_not_judged(pair: tuple[Path, Path]) -> None:
    edit_json(pair[1] / CONFIG, lambda c: c.update(something_new=3))
    found = Verified(pair[1], pair[0], ONLY)
    assert found.status == 2
    assert (
        "something_new = 3, the source's does not have it"
        in found.level("structure")["unchecked"]["listed"][0]
    )


DEFAULT_ROPE = {"rope_theta": 500000.0, "rope_type": "default"}
YARN = {"rope_theta": 500000.0, "rope_type": "yarn", "factor": 2.0}
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "rope_theta": 500000.0,
    "torch_dtype": "bfloat16", "vocab_size": 80, "tie_word_embeddings": False,
}  # fmt: skip
SAME: dict[str, dict[str, Any]] = {
    "what the class takes": {
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
    },
    "what it computes": {"head_dim": 16, "num_key_value_heads": 4},
    "an integer as a float": {"rope_theta": 500000},
    "who wrote it": {"transformers_version": "5.0", "_name_or_path": "x", "_attn_implementation": "sdpa"},
    "dtype respelled": {"torch_dtype": ..., "dtype": "bfloat16"},
    "transformers 5": {
        "rope_theta": ...,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    },
    "both spellings": {"rope_parameters": DEFAULT_ROPE},
    "null": {"rope_scaling": None, "pretraining_tp": 1, "unheard_of": None},
    "the quantization": {"quantization_config": {"x": 1}},
    "a flag that is the default": {"tie_word_embeddings": ...},
}
OTHER: dict[str, dict[str, Any]] = {
    "not what the class takes": {"attention_bias": True},
    "not what it computes": {"head_dim": 32},
    "true for one": {"pretraining_tp": True},
    "two spellings that disagree": {"rope_parameters": {"rope_theta": 1.0, "rope_type": "default"}},
    "theta left out": {"rope_theta": ...},
    "a scaling in the new spelling": {"rope_theta": ..., "rope_parameters": YARN},
    "another dtype": {"torch_dtype": "float16"},
}  # fmt: skip


def compared(change: dict[str, Any], folder: Path) -> Comparison:
    ours = {key: value for key, value in (LLAMA | change).items() if value is not ...}
    return Comparison(ours, LLAMA, folder, {"BF16"})


@pytest.mark.parametrize("name", SAME)
def test_the_same_in_other_words(tmp_path: Path, name: str) -> None:
    found = compared(SAME[name], tmp_path)
    assert (found.findings, found.unchecked) == ([], [])


@pytest.mark.parametrize("name", OTHER)
def test_something_else(tmp_path: Path, name: str) -> None:
    assert compared(OTHER[name], tmp_path).findings


def test_parts_of_a_model_that_sees(tmp_path: Path) -> None:
    text = {"model_type": "gemma3_text", "num_hidden_layers": 4, "hidden_size": 64}
    source = {
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {"model_type": "siglip_vision_model"},
    }
    same = source | {"text_config": text | {"head_dim": 256, "final_logit_softcapping": None}}
    assert Comparison(same, source, tmp_path, set()).findings == []
    other = source | {"text_config": text | {"num_hidden_layers": 5}}
    assert "text_config.num_hidden_layers" in Comparison(other, source, tmp_path, set()).findings[0].message


# --- files ---------------------------------------------------------------------------------------------


def edit(name: str, **change: Any) -> Callable[[Path], Any]:
    return lambda folder: edit_json(folder / name, lambda content: content.update(change))


def put(name: str, content: str = "") -> Callable[[Path], Any]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return write


WORDS, SAID = "tokenizer.json", "tokenizer_config.json"
FILES: dict[str, tuple[Callable[[Path], Any], int]] = {
    "a word of the vocabulary": (
        lambda f: edit_json(f / "tokenizer.json", lambda c: c["model"]["vocab"].update(a=9)), 1,
    ),
    "a merge": (lambda f: edit_json(f / "tokenizer.json", lambda c: c["model"].update(merges=["b a"])), 1),
    "merges as pairs": (
        lambda f: edit_json(f / "tokenizer.json", lambda c: c["model"].update(merges=[["a", "b"]])), 0,
    ),
    "a normalizer": (edit(WORDS, normalizer={"type": "x"}), 1),
    "padding left behind": (edit(WORDS, padding={"direction": "Left"}), 0),
    "the tokenizer's class respelled": (edit(SAID, tokenizer_class="TokenizersBackend"), 0),
    "a special token": (edit(SAID, eos_token="x"), 1),
    "a token with its flags": (edit(SAID, eos_token={"content": "</s>"}), 0),
    "padding with the end": (edit(SAID, pad_token="</s>"), 0),
    "no begin token": (edit(SAID, add_bos_token=False), 1),
    "code for the tokenizer": (edit(SAID, auto_map={"A": "b.C"}), 1),
    "a template in the tokenizer's configuration": (
        lambda f: [
            edit_json(f / "tokenizer_config.json", lambda c: c.update(
                chat_template=(f / "chat_template.jinja").read_text())),
            (f / "chat_template.jinja").unlink(),
        ], 0,
    ),
    "another template": (put("chat_template.jinja", "{{ x }}"), 1),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), 1),
    "no tokenizer.json": (lambda f: (f / "tokenizer.json").unlink(), 1),
    "no tokenizer at all": (
        lambda f: [p.unlink() for p in (f / "tokenizer.json", f / "tokenizer_config.json",
                                        f / "chat_template.jinja")], 0,
    ),
    "a vocabulary beside": (put("vocab.txt", "a"), 1),
    "generation settings lost": (put("generation_config.json", '{"eos_token_id": 0}'), 1),
    "no generation settings": (lambda f: (f / "generation_config.json").unlink(), 1),
    "another version of generation settings": (edit("generation_config.json", transformers_version="5"), 0),
    "code changed": (put("modeling_x.py", "import os\n"), 1),
    "code lost": (lambda f: (f / "modeling_x.py").unlink(), 1),
    "code added": (put("more.py", ""), 1),
    "code below": (put("custom_generate/g.py"), 1),
    "weights of torch": (put("pytorch_model.bin", "x"), 1),
    "weights of llama.cpp": (put("model.gguf", "x"), 1),
    "a checkpoint of torch": (put("consolidated.00.pth", "x"), 1),
    "compiled code": (put("__pycache__/a.pyc"), 1),
    "an adapter": (put("adapter_config.json", "{}"), 1),
    "another quantizer's configuration": (put("quantize_config.json", "{}"), 2),
    "a card": (put("README.md", "hello"), 0),
    "torch's weights for others, below": (put("original/consolidated.pth"), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_stands_beside(pair: tuple[Path, Path], name: str) -> None:
    change, status = FILES[name]
    change(pair[1])
    found = Verified(pair[1], pair[0], ONLY)
    assert found.status == status, found.screen


def test_do_sample_that_modelopt_adds_is_a_note(pair: tuple[Path, Path]) -> None:
    edit_json(pair[0] / "generation_config.json", lambda c: c.pop("do_sample"))
    found = Verified(pair[1], pair[0], ONLY)
    assert found.status == 0
    assert any("do_sample" in note for note in found.level("structure")["notes"])


@pytest.mark.parametrize(("name", "value"), [
    ("a repository", {"AutoConfig": "attacker/repo--evil.Class"}),
    ("a folder", {"AutoConfig": "sub/evil.Class"}), ("an absolute path", {"AutoConfig": "/tmp--evil.Class"}),
    ("a file that is not there", {"AutoModel": "no.Class"}),
    ("no mapping", "evil.Class"), ("no text", {"AutoConfig": 3}), ("no class", {"AutoConfig": "modeling_x"}),
])  # fmt: skip
def test_an_auto_map_names_code_beside_it(pair: tuple[Path, Path], name: str, value: Any) -> None:
    """Without a source too."""
    edit_json(pair[1] / CONFIG, lambda c: c.update(auto_map=value))
    assert Verified(pair[1], None, ONLY).status == 1


SIZES = "hidden_size vocab_size num_attention_heads head_dim num_local_experts intermediate_size"


@pytest.mark.parametrize("key", SIZES.split())
@pytest.mark.parametrize("value", [12345, "64"])
def test_sizes_are_held_to_the_tensors_without_a_source(
    pair: tuple[Path, Path], key: str, value: Any
) -> None:
    edit_json(pair[1] / CONFIG, lambda c: c.update({key: value}))
    assert Verified(pair[1], None, ONLY).status == 1


def test_what_was_not_compared_is_said(pair: tuple[Path, Path]) -> None:
    notes = Verified(pair[1], None, ONLY).level("structure")["notes"]
    assert any("were not compared: this needs source=DIR" in note for note in notes)
    assert json.loads((pair[1] / CONFIG).read_text())["model_type"] == "minimax_m2"
