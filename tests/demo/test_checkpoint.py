import json
import re

import pytest
import torch

from demo import fp8

# The module names of the published checkpoint.
PATTERNS = [
    r"model\.embed_tokens\.weight",
    r"model\.norm\.weight",
    r"lm_head\.weight",
    r"model\.layers\.\d+\.(input|post_attention)_layernorm\.weight",
    r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight(_scale_inv)?",
    r"model\.layers\.\d+\.self_attn\.[qk]_norm\.weight",
    r"model\.layers\.\d+\.block_sparse_moe\.gate\.weight",
    r"model\.layers\.\d+\.block_sparse_moe\.e_score_correction_bias",
    r"model\.layers\.\d+\.block_sparse_moe\.experts\.\d+\.w[123]\.weight(_scale_inv)?",
]


def expected(config):
    """Name -> (dtype, shape) of every tensor, from the configuration alone."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    bf16 = torch.bfloat16
    tensors = {
        "model.embed_tokens.weight": (bf16, (config["vocab_size"], hidden)),
        "model.norm.weight": (bf16, (hidden,)),
        "lm_head.weight": (bf16, (config["vocab_size"], hidden)),
    }

    def block_scaled(name, rows, columns):
        tensors[name] = (torch.float8_e4m3fn, (rows, columns))
        tensors[f"{name}_scale_inv"] = (torch.float32, (-(-rows // 128), -(-columns // 128)))

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, shape in {"q": (query, hidden), "k": (key, hidden), "v": (key, hidden)}.items():
            block_scaled(f"{at}.self_attn.{name}_proj.weight", *shape)
        block_scaled(f"{at}.self_attn.o_proj.weight", hidden, query)
        tensors[f"{at}.self_attn.q_norm.weight"] = (bf16, (query,))
        tensors[f"{at}.self_attn.k_norm.weight"] = (bf16, (key,))
        tensors[f"{at}.input_layernorm.weight"] = (bf16, (hidden,))
        tensors[f"{at}.post_attention_layernorm.weight"] = (bf16, (hidden,))
        experts = config["num_local_experts"]
        tensors[f"{at}.block_sparse_moe.gate.weight"] = (bf16, (experts, hidden))
        tensors[f"{at}.block_sparse_moe.e_score_correction_bias"] = (torch.float32, (experts,))
        for expert in range(experts):
            for name, shape in {"w1": (width, hidden), "w2": (hidden, width), "w3": (width, hidden)}.items():
                block_scaled(f"{at}.block_sparse_moe.experts.{expert}.{name}.weight", *shape)
    return tensors


@pytest.fixture(scope="module")
def tensors(model_folder):
    return fp8.read_shards(model_folder)


def test_inventory_follows_from_the_configuration(tensors, config):
    assert {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} == expected(config)


def test_names_are_the_published_ones(tensors):
    assert [name for name in tensors if not any(re.fullmatch(p, name) for p in PATTERNS)] == []


def test_several_shards_and_a_true_index(model_folder, tensors):
    index = json.loads((model_folder / fp8.INDEX).read_text())
    assert set(index["weight_map"]) == set(tensors)
    assert set(index["weight_map"].values()) == {p.name for p in model_folder.glob("*.safetensors")}
    assert len(set(index["weight_map"].values())) >= 2
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())


def test_size(model_folder):
    assert sum(p.stat().st_size for p in model_folder.iterdir() if p.is_file()) <= 8_000_000


def test_scales_put_each_block_maximum_at_the_largest_value(tensors):
    for name, scale in tensors.items():
        if not name.endswith("_scale_inv"):
            continue
        assert torch.isfinite(scale).all() and (scale > 0).all(), name
        values = tensors[name.removesuffix("_scale_inv")].float().abs()
        for i, row in enumerate(values.split(128, dim=0)):
            for j, block in enumerate(row.split(128, dim=1)):
                assert block.max() == 448, (name, i, j)


def test_all_values_finite(tensors):
    assert [name for name, t in tensors.items() if not torch.isfinite(t.float()).all()] == []


def test_quantization_configuration_names_real_modules(config, tensors):
    settings = config["quantization_config"]
    assert settings["quant_method"] == "fp8"
    assert settings["fmt"] == "float8_e4m3fn"
    assert settings["activation_scheme"] == "dynamic"
    assert settings["weight_block_size"] == [128, 128]
    for module in settings["modules_to_not_convert"]:
        assert any(module in name for name in tensors), module


def test_dequantize_is_one_rounding_of_the_product():
    values = torch.tensor([[1.125, -448.0], [0.0, 3.5]]).to(torch.float8_e4m3fn)
    scale = torch.tensor([[0.3]])
    exact = values.double() * torch.tensor(0.3).double()
    assert torch.equal(fp8.dequantize(values, scale), exact.float().to(torch.bfloat16))


def test_quantize_handles_ragged_and_empty_blocks():
    weight = torch.zeros(130, 200)
    weight[129, 199] = -2.0
    values, scale = fp8.quantize(weight)
    assert scale.shape == (2, 2)
    assert scale[0, 0] == 1 and scale[1, 1] == torch.tensor(2.0) / 448
    assert values[129, 199].float() == -448
    assert torch.equal(fp8.dequantize(values, scale).float(), weight)


def test_configuration_and_tokenizer_agree(config, tokenizer):
    assert len(tokenizer) == config["vocab_size"]
    for name in ("bos", "eos", "pad"):
        assert getattr(tokenizer, f"{name}_token_id") == config[f"{name}_token_id"]
    assert tokenizer.pad_token == tokenizer.eos_token
