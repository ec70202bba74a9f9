"""Running our commands as a user would, and tiny sources made by transformers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = 300


def command(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our console commands as a user would."""
    path = Path(sys.executable).parent / program
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(
        [path, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )


def quantize(cwd: Path, *overrides: str) -> Path:
    """Quantize into `cwd/checkpoint` without tracking unless an override says otherwise."""
    cwd.mkdir(parents=True, exist_ok=True)
    said = command("quantize", "output_dir=checkpoint", "tracking=off", *overrides, cwd=cwd)
    assert said.returncode == 0, said.stderr
    return cwd / "checkpoint"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tiny(folder: Path, architecture: str) -> Path:
    """A tiny random checkpoint of an architecture that transformers itself knows, with a tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    shared: dict[str, Any] = {
        "vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    moe: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    made = {
        "mixtral": lambda: transformers.MixtralConfig(
            **shared, intermediate_size=96, num_local_experts=4, num_experts_per_tok=2
        ),
        "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
            **shared, **moe, intermediate_size=96, head_dim=16, decoder_sparse_step=1
        ),
        "deepseek_v2": lambda: transformers.DeepseekV2Config(
            **shared | {"num_key_value_heads": 4}, intermediate_size=96, moe_intermediate_size=48, n_routed_experts=4, n_shared_experts=1,
            num_experts_per_tok=2, first_k_dense_replace=1, kv_lora_rank=32, q_lora_rank=None,
            qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16, topk_method="greedy", n_group=1,
            topk_group=1,
        ),
        "olmoe": lambda: transformers.OlmoeConfig(
            **shared, intermediate_size=96, num_experts=4, num_experts_per_tok=2
        ),
        "llama": lambda: transformers.LlamaConfig(**shared, intermediate_size=96, tie_word_embeddings=True),
    }[architecture]()
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w0", pad_token="w0"
    ).save_pretrained(folder)
    return folder


def tiny_recipe(source: Path, texts: Path) -> list[str]:
    """The overrides that quantize a tiny checkpoint with the texts."""
    return [
        "recipe=local",
        f"model.path={source}",
        f"calibration.datasets.text.path={texts}",
        "calibration.datasets.text.samples=8",
    ]
