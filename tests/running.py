"""Running our commands as a user would, and tiny sources made by transformers."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import forking
import hung
from forking import Forked

ROOT = Path(__file__).resolve().parents[1]
WORDS = 300
WIDE = {"COLUMNS": "100"}


BIN = Path(sys.executable).parent
PROOFCARD = BIN / "proofcard"
PIPE = subprocess.PIPE


def start(
    words: Sequence[str | Path],
    cwd: Path,
    environment: dict[str, str] | None = None,
    out: int | TextIO = PIPE,
    err: int | TextIO = PIPE,
) -> subprocess.Popen[str]:
    """A program in the background, as from a terminal: the one way in which tests start a process of ours.

    Programs of this environment are found by name. What Slurm has set around the tests is left out.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SUBMITIT_"))}
    process = subprocess.Popen(
        words, cwd=cwd, env=inherited | surroundings() | (environment or {}), text=True,
        stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        preexec_fn=as_from_a_terminal,
    )  # fmt: skip
    hung.watch(process)
    return process


def surroundings() -> dict[str, str]:
    """What every program of the tests gets besides: this environment's programs, and a terminal's width.

    And that it writes its stacks when it is aborted: see hung.py.
    """
    return WIDE | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONFAULTHANDLER": "1"}


def run(
    words: Sequence[str | Path], cwd: Path, environment: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Started and waited for: exit status, standard output and standard error."""
    process = start(words, cwd, environment)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def as_from_a_terminal() -> None:
    """A shell's `&` leaves SIGINT ignored, nohup SIGHUP, in whatever the tests start."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def command(
    program: str,
    *arguments: str,
    cwd: Path,
    fresh: bool = False,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one of our console commands as a user would; `fresh` and `environment` as `python` has them."""
    return python(PROOFCARD, program, *arguments, cwd=cwd, fresh=fresh, environment=environment)


def forked(program: str, *arguments: str, cwd: Path) -> Forked:
    """One of our console commands, started as `command` starts it."""
    words = [str(PROOFCARD), program, *arguments]
    return Forked(words, cwd, os.environ | surroundings())


def python(
    program: Path,
    *arguments: str,
    cwd: Path,
    fresh: bool = False,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a Python program, forked from a process that has imported what is slow, unless `fresh`.

    `environment` is what it has besides.
    """
    more = environment or {}
    words = [str(program), *arguments]
    if not fresh and forking.alike(os.environ | more):
        return forking.run(words, cwd, os.environ | surroundings() | more)
    status, out, err = run([sys.executable, *words], cwd, more)
    return subprocess.CompletedProcess([sys.executable, *words], status, out, err)


def quantize(cwd: Path, *overrides: str, fresh: bool = False) -> Path:
    """Quantize into `cwd/checkpoint` without tracking unless an override says otherwise."""
    cwd.mkdir(parents=True, exist_ok=True)
    said = command("quantize", "output_dir=checkpoint", "tracking=off", *overrides, cwd=cwd, fresh=fresh)
    assert said.returncode == 0, said.stderr
    return cwd / "checkpoint"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tiny(folder: Path, architecture: str, **settings: Any) -> Path:
    """A tiny random checkpoint of an architecture that transformers itself knows, with a tokenizer.

    Norms and biases are random too: no two tensors of it are alike, wherever they end up.
    """
    import torch
    import transformers

    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(
        tiny_config(architecture, **settings), dtype=torch.bfloat16
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # small biases: larger ones would send every token to the same experts
                parameter.add_((0.2 if "norm" in name else 0.02) * torch.randn_like(parameter))
    model.save_pretrained(folder)
    add_tokenizer(folder)
    return folder


def tiny_config(architecture: str, **settings: Any) -> Any:
    """Its configuration, `settings` over the defaults: three layers of width 64, four experts."""
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "intermediate_size": 96,
    }  # fmt: skip
    two_of_four: dict[str, Any] = {"num_experts_per_tok": 2, "num_local_experts": 4, "num_experts": 4}
    kind, own = {
        "mixtral": (transformers.MixtralConfig, {}),
        "qwen3_moe": (
            transformers.Qwen3MoeConfig,
            {"moe_intermediate_size": 48, "head_dim": 16, "decoder_sparse_step": 1, "attention_bias": True},
        ),
        "deepseek_v2": (
            transformers.DeepseekV2Config,
            {
                "num_key_value_heads": 4, "moe_intermediate_size": 48, "n_routed_experts": 4,
                "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 32, "q_lora_rank": None,
                "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "topk_method": "greedy",
                "n_group": 1, "topk_group": 1,
            },
        ),
        "qwen3_next": (
            transformers.Qwen3NextConfig,
            {
                "moe_intermediate_size": 48, "head_dim": 16, "shared_expert_intermediate_size": 48,
                "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "layer_types": ["linear_attention", "full_attention", "full_attention"],
            },
        ),
        "qwen2_moe": (
            transformers.Qwen2MoeConfig, {"moe_intermediate_size": 48, "shared_expert_intermediate_size": 48}
        ),
        "olmoe": (transformers.OlmoeConfig, {}),
        "llama": (transformers.LlamaConfig, {"tie_word_embeddings": True, "mlp_bias": True}),
        "gemma3_text": (
            transformers.Gemma3TextConfig,
            {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
        ),
    }[architecture]  # fmt: skip
    experts = {} if architecture in ("llama", "gemma3_text") else two_of_four
    return kind(**shared | experts | own | settings)


def uv_cache() -> str:
    """The folder where uv keeps the wheels."""
    words = [ROOT / "scripts" / "uv", "cache", "dir"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def add_tokenizer(folder: Path) -> None:
    """Words `w0` to `w299`, one token each."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w0", pad_token="w0"
    ).save_pretrained(folder)


def tiny_recipe(source: Path, texts: Path) -> list[str]:
    """The overrides that quantize a tiny checkpoint with the texts."""
    return [
        "recipe=local",
        f"model.path={source}",
        f"calibration.datasets.text.path={texts}",
        "calibration.datasets.text.samples=8",
    ]
