"""What a source may be: every float, FP8 in blocks, heads for further tokens; what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize.changing import EXPERT, State, built, change_config, change_tensors, refusal
from running import tiny
from safetensors.torch import load_file

from proofcard.checkpoint import floats
from proofcard.quantize.model import tensor


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("moe") / "source", "qwen3_moe")


@pytest.fixture
def source(moe: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(moe, tmp_path / "source"))


# --- floats ------------------------------------------------------------------------------------------


def values(dtype: torch.dtype) -> torch.Tensor:
    """Ties, both zeros, subnormals, what overflows, infinities and NaN among many others."""
    generator = torch.Generator().manual_seed(3)
    if dtype.itemsize == 2:
        return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    many = torch.randn(20_000, generator=generator, dtype=torch.float64) * 10.0 ** torch.randint(
        -44, 39, (20_000,), generator=generator
    )
    special = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -3.4e38, 1e300, float("inf"), float("nan")]
    return torch.cat([many, torch.tensor(special, dtype=torch.float64)]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_float_becomes_bf16_as_torch_makes_it(dtype: torch.dtype) -> None:
    given = values(dtype)
    name = {2: "F16", 4: "F32", 8: "F64"}[dtype.itemsize]
    made = torch.from_numpy(floats.converted(given.numpy(), name, "BF16").view(np.int16)).view(torch.bfloat16)
    wanted = given.to(torch.bfloat16)
    assert torch.equal(made.isnan(), wanted.isnan())
    assert torch.equal(made.nan_to_num(7.0).view(torch.int16), wanted.nan_to_num(7.0).view(torch.int16))


def test_narrow_scales_are_widened_exactly() -> None:
    bf16 = values(torch.bfloat16)
    made = torch.from_numpy(floats.converted(bf16.view(torch.uint16).numpy(), "BF16", "F32"))
    assert torch.equal(made.view(torch.int32), bf16.float().view(torch.int32))
    powers = torch.arange(255, dtype=torch.int32).to(torch.uint8)
    made = torch.from_numpy(floats.converted(powers.numpy(), "F8_E8M0", "F32"))
    assert torch.equal(made, powers.view(torch.float8_e8m0fnu).float())
    with pytest.raises(ValueError, match="F8_E4M3 cannot be read as BF16"):
        floats.converted(powers.numpy(), "F8_E4M3", "BF16")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, "mixed"])
def test_weights_are_those_that_from_pretrained_would_load(source: Path, dtype: Any) -> None:
    import transformers

    def cast(state: State) -> None:
        for number, name in enumerate(state):
            chosen = (torch.float16, torch.float32, torch.bfloat16)[number % 3] if dtype == "mixed" else dtype
            state[name] = state[name].to(chosen) * 1.0009765625

    change_tensors(source, cast)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).state_dict()
    ours, model = built(source)
    for name in model.state_dict():
        found = tensor(ours, name)
        assert found.dtype == loaded[name].dtype and torch.equal(found, loaded[name]), name


@pytest.mark.parametrize("kind", ["deepseek_v3", "ernie4_5_moe"])
def test_what_routes_stays_in_f32(tmp_path: Path, kind: str) -> None:
    """A routing bias that the source has in F32; a router that its class keeps in F32 whatever is stored."""
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "intermediate_size": 96, "moe_intermediate_size": 48,
    }  # fmt: skip
    of_deepseek: dict[str, Any] = {
        "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "num_experts_per_tok": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "kv_lora_rank": 32, "q_lora_rank": None, "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16, "v_head_dim": 16,
    }  # fmt: skip
    of_ernie = {"moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 1}
    made: Any = {
        "deepseek_v3": lambda: transformers.DeepseekV3Config(**shared, **of_deepseek),
        "ernie4_5_moe": lambda: transformers.Ernie4_5_MoeConfig(**shared, **of_ernie),
    }[kind]()
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    name = {"deepseek_v3": "mlp.gate.e_score_correction_bias", "ernie4_5_moe": "mlp.gate.weight"}[kind]
    name = f"model.layers.1.{name}"
    for dtype in (torch.float32, torch.bfloat16):
        value = torch.full(load_file(tmp_path / "model.safetensors")[name].shape, 0.37, dtype=dtype)
        change_tensors(tmp_path, set_to(name, value))
        ours, _ = built(tmp_path)
        kept = torch.float32 if kind == "ernie4_5_moe" or dtype == torch.float32 else torch.bfloat16
        assert torch.equal(tensor(ours, name), value.to(kept)) and tensor(ours, name).dtype == kept


# --- FP8 ---------------------------------------------------------------------------------------------

BLOCKS = {"quant_method": "fp8", "weight_block_size": [16, 32]}


def to_fp8(folder: Path, scale: torch.dtype = torch.float32, name: str = EXPERT) -> None:
    change_config(folder, quantization_config=BLOCKS)

    def change(state: State) -> None:
        rows, cols = state[name].shape
        state[name] = (state[name].float() * 100).to(torch.float8_e4m3fn)
        shape = (-(-rows // 16), -(-cols // 32))
        scales = 0.01 * (1 + torch.arange(shape[0] * shape[1]).reshape(shape) % 7)
        state[f"{name}_scale_inv"] = scales.to(scale)

    change_tensors(folder, change)


@pytest.mark.parametrize("scale", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e8m0fnu])
def test_scales_may_be_any_float_and_blocks_any_size(source: Path, scale: torch.dtype) -> None:
    to_fp8(source, scale)
    state = load_file(source / "model.safetensors")
    factors = state[f"{EXPERT}_scale_inv"].float()
    rows, cols = state[EXPERT].shape
    wide = factors.repeat_interleave(16, 0)[:rows].repeat_interleave(32, 1)[:, :cols]
    ours, _ = built(source)
    assert torch.equal(tensor(ours, EXPERT), (state[EXPERT].float() * wide).to(torch.bfloat16))
    assert np.array_equal(ours.unrounded(EXPERT), (state[EXPERT].float() * wide).numpy())


def per_tensor(folder: Path, scales: dict[str, torch.Tensor], **said: Any) -> None:
    to_fp8(folder)
    change_config(folder, quantization_config={"quant_method": "fp8"} | said)

    def change(state: State) -> None:
        del state[f"{EXPERT}_scale_inv"]
        state.update({EXPERT.removesuffix("weight") + leaf: value.clone() for leaf, value in scales.items()})

    change_tensors(folder, change)


def set_to(name: str, value: torch.Tensor) -> Callable[[State], None]:
    return lambda state: state.update({name: value})


def fp8_and(change: Callable[[State], Any]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        to_fp8(folder)
        change_tensors(folder, change)

    return both


ONE = torch.ones(())
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no scale": (fp8_and(lambda state: state.pop(f"{EXPERT}_scale_inv")), f"{EXPERT} is FP8 without"),
    "scale of another shape": (
        fp8_and(set_to(f"{EXPERT}_scale_inv", torch.ones(2, 2))),
        f"{EXPERT}_scale_inv has shape [2, 2], but {EXPERT}, [48, 64] in blocks of 16 × 32, needs [3, 2]",
    ),
    "scale in whole numbers": (
        fp8_and(set_to(f"{EXPERT}_scale_inv", torch.ones(3, 2, dtype=torch.int32))),
        f"{EXPERT}_scale_inv is I32",
    ),
    "a scale too many": (
        fp8_and(set_to("model.norm.weight_scale_inv", ONE)),
        "model.norm.weight is BF16 but also has model.norm.weight_scale_inv",
    ),
    "undeclared": (
        lambda folder: (to_fp8(folder), change_config(folder, quantization_config=None)),
        f"{EXPERT} is FP8, but config.json has no quantization_config",
    ),
    "one scale a tensor": (
        lambda folder: per_tensor(
            folder, {"weight_scale": ONE, "input_scale": ONE}, activation_scheme="static"
        ),
        f"without {EXPERT}_scale_inv (there is {EXPERT}_scale)",
    ),
    "one scale a tensor, no block": (
        lambda folder: per_tensor(folder, {"weight_scale_inv": ONE}, weight_block_size=None),
        "weight_block_size=null",
    ),
    "one scale a tensor under the blocks' name": (
        lambda folder: per_tensor(folder, {"weight_scale_inv": ONE}),
        f"{EXPERT}_scale_inv has shape []",
    ),
    "compressed-tensors": (
        lambda folder: per_tensor(folder, {"weight_scale": ONE}, quant_method="compressed-tensors"),
        "already quantized (compressed-tensors)",
    ),
    "compressed-tensors under its older key": (
        lambda folder: change_config(folder, compression_config={"quant_method": "compressed-tensors"}),
        "already quantized (compressed-tensors)",
    ),
    "E5M2": (
        lambda folder: change_tensors(folder, lambda s: s.update({EXPERT: s[EXPERT].to(torch.float8_e5m2)})),
        f"{EXPERT} is F8_E5M2",
    ),
    "E5M2, said": (
        lambda folder: change_config(folder, quantization_config={"quant_method": "fp8", "fmt": "e5m2"}),
        "fmt='e5m2'",
    ),
    "odd block": (
        lambda folder: change_config(folder, quantization_config=BLOCKS | {"weight_block_size": [128, 0]}),
        "weight_block_size=[128, 0]",
    ),
    "block in quotes": (
        lambda folder: change_config(folder, quantization_config=BLOCKS | {"weight_block_size": "128"}),
        "weight_block_size='128'",
    ),
    "a word": (lambda folder: change_config(folder, quantization_config="fp8"), "not a JSON object"),
    "whole numbers": (
        lambda folder: change_tensors(folder, lambda s: s.update({EXPERT: s[EXPERT].to(torch.int8)})),
        f"{EXPERT} in model.safetensors is I8",
    ),
    # what is missing, unknown, of another shape
    "a weight missing": (
        lambda folder: change_tensors(folder, lambda s: s.pop(EXPERT)),
        f"is incomplete: {EXPERT}",
    ),
    "the head missing": (
        lambda folder: change_tensors(folder, lambda s: s.pop("lm_head.weight")),
        "config.json does not tie it",
    ),
    "an unknown weight": (
        lambda folder: change_tensors(folder, set_to("model.layers.0.mlp.shared.weight", ONE)),
        "has the unexpected tensor model.layers.0.mlp.shared.weight",
    ),
    "a bias": (
        lambda folder: change_tensors(folder, set_to(EXPERT.replace("weight", "bias"), torch.ones(48))),
        f"has the unexpected tensor {EXPERT.replace('weight', 'bias')}",
    ),
    "a layer too many": (
        lambda folder: change_config(folder, num_hidden_layers=2),
        "has the unexpected tensor model.layers.2.",
    ),
    "a layer too few": (
        lambda folder: change_config(folder, num_hidden_layers=4),
        "is incomplete: model.layers.3.",
    ),
    "experts of another width": (
        lambda folder: change_config(folder, moe_intermediate_size=32),
        "has shape [64, 48]; the model that config.json describes has [64, 32]",
    ),
    "heads of another width": (
        lambda folder: change_config(folder, head_dim=32),
        "has shape [16]; the model that config.json describes has [32]",
    ),
    "an empty weight": (
        lambda folder: change_tensors(folder, set_to(EXPERT, torch.ones(0, 64, dtype=torch.bfloat16))),
        f"{EXPERT} in model.safetensors has shape [0, 64]",
    ),
    "experts of a layer in one tensor": (
        lambda folder: change_tensors(
            folder, set_to("model.layers.0.mlp.experts.gate_up_proj", torch.ones(4, 96, 64))
        ),
        "model.layers.0.mlp.experts.gate_up_proj, [4, 96, 64], holds all experts of a layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_source_that_does_not_fit_is_refused_by_name(source: Path, case: str) -> None:
    change, sentence = FAULTS[case]
    change(source)
    assert sentence in refusal(source)
