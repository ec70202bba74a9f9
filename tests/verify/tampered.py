"""What tamperings with a checkpoint have in common: the pair that they are done to, and how they tell it."""

import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

from verify.making import Tensors, load, make_checkpoint, make_source, reseal

UNPROVEN = {
    "calibrated": "a scale that calibration decides, within its bounds: input_scale, k_scale, v_scale",
    "same tensors": "how tensors lie in files: padding, metadata, a scalar as [1], the index's own metadata",
    "equal in value": "another dtype with the same values, which the weights level says in a note",
    "unread": "files that no engine reads, and keys that tell only who wrote a file",
    "same meaning": "JSON laid out anew; a key left out that only repeats its default",
    "left out": "hf_quant_config.json where config.json says it all",
}
SHARDS, EXPERTS = 2, 2
INDEX, CONFIG, QUANT = "model.safetensors.index.json", "config.json", "hf_quant_config.json"

Random = random.Random


class Done(NamedTuple):
    """What was done, and why a level may not see it (a key of `UNPROVEN`)."""

    what: str
    unproven: str | None = None


def make_pair(folder: Path) -> tuple[Path, Path]:
    """A source with everything that stands beside weights, and its sealed checkpoint."""
    source = make_source(folder / "source", experts=EXPERTS)
    said = json.loads((source / CONFIG).read_text()) | {
        "architectures": ["MiniMaxM2ForCausalLM"], "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": 16, "rotary_dim": 8, "rope_theta": 5000000, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "intermediate_size": 48, "num_experts_per_tok": 2, "scoring_func": "sigmoid", "dtype": "bfloat16",
        "attn_type_list": [1, 1], "use_qk_norm": True, "max_position_embeddings": 4096,
        "eos_token_id": [0, 5], "bos_token_id": 1, "transformers_version": "4.57.6", "rope_scaling": None,
        "sliding_window": None,
        "auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"},
    }  # fmt: skip
    beside = {
        CONFIG: json.dumps(said, indent=1),
        "tokenizer.json": json.dumps({
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 0, "content": "s"}],
            "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
            "decoder": None, "model": {"type": "BPE", "vocab": {"a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
        }),
        "tokenizer_config.json": json.dumps({
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "add_bos_token": True,
            "model_max_length": 4096, "clean_up_tokenization_spaces": False,
        }),
        "generation_config.json": json.dumps({"do_sample": True, "top_k": 40, "eos_token_id": [0, 5]}),
        "chat_template.jinja": "{% for m in messages %}{{ m.content }}{% endfor %}",
        "configuration_x.py": "class XConfig:\n    model_type = 'minimax_m2'\n",
        "modeling_x.py": "class X:\n    pass\n",
    }  # fmt: skip
    for name, text in beside.items():
        (source / name).write_text(text)
    made = make_checkpoint(folder / "checkpoint", source)
    (made / "modeling.py").unlink()
    quantization = json.loads((made / CONFIG).read_text())["quantization_config"]
    for name, text in beside.items():
        (made / name).write_text(text)
    del said["quantization_config"]
    (made / CONFIG).write_text(json.dumps(said | {"quantization_config": quantization}, indent=1))
    reseal(made, source)
    return source, made


def copy(folder: Path, to: Path) -> Path:
    """A copy of links: whoever changes a file writes it anew."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).hardlink_to(path)
    return to


_loaded: dict[tuple[tuple[int, int], ...], Tensors] = {}


def tensors_of(folder: Path) -> Tensors:
    """The tensors of a copy, read once for all copies that are links to the same files."""
    seen = [path.stat() for path in sorted(folder.glob("*.safetensors"))]
    key = tuple((one.st_ino, one.st_mtime_ns) for one in seen)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load(folder)
    return dict(_loaded[key])


def write(path: Path, content: bytes) -> None:
    """In place of what may be a link to the original."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
