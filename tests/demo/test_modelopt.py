"""What ModelOpt must find in the demo model, by the counts that hold for the published one."""

import copy

import pytest
import torch

from demo.perplexity import load_model

QUANTIZERS_A_LINEAR = 3  # input, weight and output quantizer of each nn.Linear


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_quantizers_are_inserted_and_calibrated(model_folder, config, heldout, attention):
    mtq = pytest.importorskip("modelopt.torch.quantization")
    from modelopt.torch.quantization.nn import TensorQuantizer

    model = load_model(model_folder, attention=attention)
    settings = copy.deepcopy(mtq.NVFP4_EXPERTS_ONLY_CFG)
    settings["algorithm"] = {"method": "max", "moe_calib_experts_ratio": 1.0}
    settings = mtq.update_quant_cfg_with_kv_cache_quant(settings, mtq.FP8_KV_CFG["quant_cfg"])
    ids = torch.tensor([heldout[0]])
    mtq.quantize(model, settings, lambda quantized: quantized(ids))

    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, TensorQuantizer)}
    layers, experts = config["num_hidden_layers"], config["num_local_experts"]
    linears = experts * 3 + 4 + 1  # experts, attention, gate
    assert len(quantizers) == layers * (linears * QUANTIZERS_A_LINEAR + 4) + 3

    enabled = {name: quantizer for name, quantizer in quantizers.items() if quantizer.is_enabled}
    assert len(enabled) == layers * (experts * 3 * 2 + 2)
    # Every token went to every expert, so none is without statistics.
    assert [n for n, q in enabled.items() if getattr(q, "_amax", None) is None or not q._amax > 0] == []
    wrapped = [type(layer.block_sparse_moe).__name__ for layer in model.model.layers]
    assert wrapped == ["QuantMiniMaxM2SparseMoeBlock"] * layers
    assert all(layer.block_sparse_moe.top_k == config["num_experts_per_tok"] for layer in model.model.layers)
