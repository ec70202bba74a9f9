"""What ModelOpt does under each series, as JSON in a file named after it: `probes.py ROOT OUT SERIES…`.

Each series has a process of its own, which imports ModelOpt anew. Every probe returns what it saw; one that
fails returns {"error": "Type: message"}.
"""

import copy
import gc
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from proofcard import garbage
from proofcard.toolchain import activate, materialise

ROWS, DRAWN = 60, 12


def origin():
    import modelopt

    program = "import importlib.util as u; print(u.find_spec('modelopt').origin)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    version = importlib.metadata.version("nvidia-modelopt")
    return {"file": modelopt.__file__, "child": child.stdout.strip(), "version": version}


def fp4():
    from modelopt.torch.quantization.backends.utils import fp4_compatible

    return {"answer": fp4_compatible()}


def dequantization():
    import torch
    from modelopt.torch.quantization.plugins import huggingface

    if huggingface.weight_dequant is None:
        return {"differing": None}
    torch.manual_seed(1)
    differing = 0
    for rows, columns in ((256, 384), (130, 200), (64, 129), (1, 1)):
        for dtype in (torch.bfloat16, torch.float32):
            weight = torch.randn(rows, columns).to(torch.float8_e4m3fn)
            scale = torch.rand(-(-rows // 128), -(-columns // 128)) * 3e-3
            found = huggingface.weight_dequant(weight, scale, 128, dtype=dtype)
            differing += int((found != _by_block(weight, scale, dtype)).sum()) + (found.dtype != dtype)
    return {"differing": differing}


def _by_block(weight, scale, dtype):
    import torch

    result = torch.empty(weight.shape, dtype=dtype)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            here = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
            result[here] = (weight[here].float() * scale[i, j]).to(dtype)
    return result


def samples():
    from modelopt.torch.utils.dataset_utils import get_dataset_samples

    with tempfile.TemporaryDirectory() as folder:
        rows = [json.dumps({"text": f"row {n}"}) for n in range(ROWS)]
        (Path(folder) / "train.jsonl").write_text("\n".join(rows))
        drawn = get_dataset_samples(folder, DRAWN)
    return {"rows": [int(text.split()[1]) for text in drawn]}


def masks():
    import torch
    from modelopt.torch.utils.dataset_utils import create_forward_loop, get_dataset_dataloader
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(9)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", padding_side="left")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("w1 w2 w3", "w4", "w5 w6")))
        loader = get_dataset_dataloader(str(path), tokenizer, batch_size=2, num_samples=3)
    seen = []

    class Model(torch.nn.Module):
        def forward(self, **inputs):
            seen.append({name: value.tolist() for name, value in inputs.items()})

    model = Model()
    create_forward_loop(model, dataloader=loader)(model)
    return {"inputs": seen}


def deduplication():
    import torch
    from modelopt.torch.export import quant_utils

    class Model(torch.nn.Module):
        _tied_weights_keys = ("lm_head.weight",)

    embedding, block = torch.ones(4, 2), torch.ones(6, 2)
    weights = {
        "model.embed_tokens.weight": embedding, "experts.0.w1.weight": block, "experts.1.w1.weight": block,
        "experts.2.w1.weight": block[:3], "lm_head.weight": embedding,
    }  # fmt: skip
    patched = "model" in quant_utils.postprocess_state_dict.__code__.co_varnames
    arguments = {"model": Model()} if patched else {}
    kept = quant_utils.postprocess_state_dict(dict(weights), 448, None, **arguments)
    same = all(torch.equal(kept[name], weights[name]) for name in kept)
    return {"kept": sorted(kept), "same": same}


def block_scales():
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    weight = torch.tensor([[1000.0] * 16 + [3.0] * 16 + [0.0] * 16])
    dynamic, _ = NVFP4QTensor.get_weights_scaling_factor(weight, 16, torch.tensor(1.0 / 6))
    per_block = weight.view(1, 3, 16).amax(-1)
    quantizer = SimpleNamespace(
        global_amax=torch.tensor(448.0), _amax=per_block.clone(), block_sizes={-1: 16}
    )
    static, _ = NVFP4QTensor.get_weights_scaling_factor_from_quantizer(quantizer, weight)
    return {"dynamic": str(dynamic.float().tolist()), "static": str(static.float().tolist())}


def division():
    import torch
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import divide

    torch.manual_seed(2)
    some = torch.cat([torch.randn(1_000_000).abs() * 30, torch.rand(1000) * 1e-38])
    numbers = (6.0 * 448.0, 448.0, 6.0)
    pairs = [(some.to(t), n) for t in (torch.float32, torch.bfloat16) for n in numbers]
    return {"differing": sum(int((divide(x, n) != x.float() / n).sum()) for x, n in pairs)}


def devices():
    """How many tensors come out differently on a GPU, by kind; None where there is none."""
    import torch
    from modelopt.torch.export import quant_utils
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    if not torch.cuda.is_available():
        return {"differing": None}

    def packed(weight, amax):
        quantizer = SimpleNamespace(
            _amax=amax, is_enabled=True, maxbound=6.0, num_bits=(4, 3), export_amax=lambda: amax
        )
        second = NVFP4QTensor.get_weights_scaling_factor_2_from_quantizer(quantizer)
        first, _ = NVFP4QTensor.get_weights_scaling_factor(weight, 16, second)
        codes = NVFP4QTensor.quantize(weight, 16, first, second)[0]._quantized_data
        activation = NVFP4QTensor.get_activation_scaling_factor(quantizer)
        cache = quant_utils.postprocess_state_dict({"l.k_bmm_quantizer._amax": amax}, 448, "FP8")
        return second, first.float(), codes, activation, *cache.values()

    torch.manual_seed(5)
    differing = [0] * 5
    for _ in range(200):
        weight = (torch.randn(32, 128) * 3 * torch.rand(1)).bfloat16()
        here, there = (packed(w, w.abs().max()) for w in (weight.clone(), weight.cuda()))
        for n, (a, b) in enumerate(zip(here, there, strict=True)):
            differing[n] += not torch.equal(a, b.cpu())
    return {"differing": differing}


def _model(fp8: bool, tied: bool = False):
    """A tiny Mixtral in BF16 whose weights come from FP8 blocks; with `fp8` they stay resident."""
    import torch
    import transformers
    from transformers.integrations.finegrained_fp8 import FP8Linear

    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2, tie_word_embeddings=tied,
        architectures=["MixtralForCausalLM"],  # export reads it without asking
    )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.requires_grad_(False)
    own = torch.Generator().manual_seed(4)  # building an FP8Linear draws from the global one
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name.endswith(("gate", "lm_head")):
            continue
        rows, columns = module.weight.shape
        scale = torch.rand(-(-rows // 128), -(-columns // 128), generator=own) * 1e-2 / 448 + 1e-5
        weight = (torch.randn(rows, columns, generator=own) * 120).clamp(-448, 448).to(torch.float8_e4m3fn)
        module.weight.data = _by_block(weight, scale, torch.bfloat16)
        if fp8 and rows >= 128 <= columns:
            resident = FP8Linear(columns, rows, block_size=(128, 128))
            resident.weight.data, resident.weight_scale_inv.data = weight, scale
            resident.requires_grad_(False)
            model.set_submodule(name, resident)
    return model


def _export(model, folder):
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint
    from safetensors import safe_open

    chosen = copy.deepcopy(mtq.NVFP4_EXPERTS_ONLY_CFG)
    chosen["algorithm"] = {"method": "max", "moe_calib_experts_ratio": 1.0}
    chosen = mtq.update_quant_cfg_with_kv_cache_quant(chosen, mtq.FP8_KV_CFG["quant_cfg"])
    ids = torch.arange(48).view(2, 24) % 64
    with torch.no_grad():
        model = mtq.quantize(model, chosen, lambda m: m(input_ids=ids, use_cache=False))
        export_hf_checkpoint(model, export_dir=folder)
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                value = file.get_tensor(name)
                data = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                tensors[name] = [str(value.dtype), hashlib.sha256(data).hexdigest()]
    return tensors


def _exported(model):
    with tempfile.TemporaryDirectory() as folder:
        return _export(model, folder)


def bf16():
    return {"tensors": _exported(_model(fp8=False))}


def fp8():
    return {"tensors": _exported(_model(fp8=True))}


def shared():
    """Declared ties, and a norm shared by two layers without a word about it."""
    model = _model(fp8=False, tied=True)
    first, second = model.model.layers
    second.input_layernorm.weight = first.input_layernorm.weight
    return {"tensors": sorted(_exported(model))}


def helped():
    """What the series would export on a CPU if only its refusals were out of the way."""
    from modelopt.torch.quantization.plugins import huggingface
    from modelopt.torch.quantization.qtensor import nvfp4_tensor

    nvfp4_tensor.fp4_compatible = lambda: False
    huggingface.weight_dequant = lambda weight, scale, size, dtype: _by_block(weight, scale, dtype)
    found = {}
    for probe in (bf16, fp8, shared):
        found[probe.__name__] = _tried(probe)
    return found


PROBES = (
    origin, fp4, dequantization, samples, masks, deduplication, block_scales, division, devices, bf16, fp8,
    shared, helped,
)  # fmt: skip


def _tried(probe):
    try:
        return probe()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def look(series, root, out):
    """Try every probe in this process."""
    activate(materialise(series, root))
    import torch

    torch.set_num_threads(1)
    found = {probe.__name__: _tried(probe) for probe in PROBES}
    (out / series).write_text(json.dumps(found))


def import_what_modelopt_imports():
    """Once for the processes of all series, but where there is a GPU: CUDA does not survive a fork.

    Nothing is imported here that asks for a driver: a forked process would be told something else.
    """
    if not Path("/dev/nvidiactl").exists():
        import datasets  # noqa: F401
        import torch  # noqa: F401
        import transformers.models.mixtral.modeling_mixtral  # noqa: F401


if __name__ == "__main__":
    garbage.look_seldom()
    root, out = map(Path, sys.argv[1:3])
    import_what_modelopt_imports()
    assert "modelopt" not in sys.modules
    for each in sys.argv[3:]:
        child = os.fork()
        if child == 0:
            look(each, root, out)
            gc.freeze()  # or the interpreter looks through all that was imported before it ends
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0, each
