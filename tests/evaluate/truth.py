"""Logits of one source by three makers: our pass over the layers, transformers, ModelOpt's fake quantization.

    python tests/evaluate/truth.py FOLDER CHECKPOINT OVERRIDES…

FOLDER is for a BF16 copy. Prints, as JSON, the largest difference of logits of each candidate from each
maker, how many logits differ, and the largest logit; of candidates from each other too, that they are not
one.

ModelOpt's block quantizer has no code for a CPU: its own `NVFP4QTensor` stands in, quantized and
dequantized. What it shares at the export, one amax of gate and up, it shares here before the run. Keys
and values are divided by their scale, as engines do it, where ModelOpt multiplies with its reciprocal:
test_rounding.py bounds that.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proofcard.calibration.batches import Batch, batches, read_samples
from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig, compose
from proofcard.determinism import make_deterministic
from proofcard.evaluate.candidates import all_of
from proofcard.evaluate.compute import Compute, computes, layer_parts
from proofcard.evaluate.streams import precision
from proofcard.evaluate.weights import Checkpoint
from proofcard.toolchain import activate, materialise

LENGTHS = (5, 24)


def main(folder: Path, made: Path, overrides: list[str]) -> None:
    config = compose(QuantizeConfig, "config", ["tracking=off", f"work_dir={folder}", *overrides])
    activate(materialise("fixed", folder / "toolchains"))
    make_deterministic(1, 0)
    assert config.model.path is not None
    source, checkpoint = Source(config.model.path), Checkpoint(made)
    own, theirs = computes(source, checkpoint, config.model, "cpu")
    random = np.random.default_rng(3)
    texts = [random.integers(1, 250, (1, length)) for length in LENGTHS]
    ours = {"source": [chain(own, None, checkpoint, text) for text in texts]}
    candidates = all_of(checkpoint.holds())
    for candidate in candidates:
        ours[candidate.name] = [chain(theirs, precision(candidate), checkpoint, text) for text in texts]
    told = {
        "source": compared(ours["source"], by_transformers(config.model.path, source, config, texts)),
        "w4a16": compared(ours["w4a16"], by_transformers(made, source, config, texts, folder)),
    }
    names = [candidate.name for candidate in candidates]
    for before, after in pairwise(names):
        told[f"{before} beside {after}"] = compared(ours[before], ours[after])
    samples = next((made.parent / "runs" / "samples").glob("[!.]*"))
    with redirect_stdout(io.StringIO()):
        quantized = by_modelopt(source, samples, config)
    for candidate in candidates:
        if candidate.kv == "kv" and checkpoint.holds().kv_biases:
            continue  # ModelOpt has no run that drops the biases
        told[f"modelopt {candidate.name}"] = compared(
            ours[candidate.name], fake_quantized(quantized, candidate, texts)
        )
    print(json.dumps(told))


def chain(compute: Compute, precision: Any, checkpoint: Checkpoint, text: np.ndarray) -> torch.Tensor:
    """One text through every layer; the logits."""
    from proofcard.evaluate.compute import Precision

    batch, states = Batch(text, np.ones_like(text)), None
    stepper = compute.stepper
    for index in range(stepper.layers):
        last, name = index == stepper.layers - 1, f"{stepper.prefix}.{index}"
        stepper.load(index, stepper.read(index))
        if last:
            stepper.load_head()
        linears = [linear for linear in checkpoint.linears() if linear.startswith(name + ".")]
        with torch.no_grad(), compute.hooked(layer_parts(stepper.modules, name), linears, caches=True):
            answer = compute.run(states, batch, precision or Precision(), to_logits=last)
        states = answer.output
    assert answer.logits is not None
    return answer.logits


def by_transformers(
    path: Path, source: Source, config: QuantizeConfig, texts: list[np.ndarray], work: Path | None = None
) -> list[torch.Tensor]:
    """`path` dequantized to a BF16 copy where it is quantized, loaded and run as transformers does it."""
    from transformers import AutoModelForCausalLM

    from proofcard.checkpoint import remote_code
    from proofcard.checkpoint.source import read_config
    from proofcard.serve import dequantized

    plain = dequantized.folder(path, read_config(path), work or Path(sys.argv[1]))
    copy, trusted = remote_code.for_model(plain, config.model.remote_code)
    remote_code.keep_modules_here()
    for weights in plain.glob("*.safetensors*"):
        if not (copy / weights.name).exists():
            (copy / weights.name).symlink_to(weights.resolve())
    (copy / "config.json").write_text((plain / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(
        copy, trust_remote_code=trusted, dtype=torch.bfloat16,
        attn_implementation=config.model.attn_implementation,
    ).eval()  # fmt: skip
    with torch.no_grad():
        return [model(torch.from_numpy(text), use_cache=False).logits[0] for text in texts]


def by_modelopt(source: Source, samples: Path, config: QuantizeConfig) -> Any:
    """The source's model calibrated by ModelOpt on the same samples, its quantizers still in it."""
    from modelopt.torch.quantization import tensor_quant

    from proofcard.quantize import modelopt
    from proofcard.quantize.model import load
    from proofcard.quantize.preparing import pad_id

    tensor_quant.dynamic_block_quantize_op, tensor_quant.fp8_eager = on_a_cpu, divided
    model = load(source, config.model, "cpu")
    groups = batches(read_samples(samples), config.calibration, pad_id(config, source))
    model = modelopt.calibrate(model, groups, config, lambda *_: None)
    for module in model.modules():
        for pair in (("w1", "w3"), ("gate_proj", "up_proj")):
            linears = [getattr(module, name, None) for name in pair]
            if all(hasattr(linear, "weight_quantizer") for linear in linears):
                both = [linear.weight_quantizer for linear in linears if linear.weight_quantizer.is_enabled]
                for quantizer in both:
                    quantizer.amax = max(each.amax.max() for each in both)
    return model


def on_a_cpu(inputs: torch.Tensor, block: int, amax: torch.Tensor, *_: Any) -> torch.Tensor:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    scale_2 = amax.float() / (6.0 * 448.0)
    made, scale, _ = NVFP4QTensor.quantize(inputs.clone(), block, weights_scaling_factor_2=scale_2)
    return made.dequantize(scale=scale, double_scale=scale_2, block_sizes={-1: block})


def divided(inputs: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    scale = amax.float() / 448.0
    return ((inputs.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale).to(
        inputs.dtype
    )


def fake_quantized(model: Any, candidate: Any, texts: list[np.ndarray]) -> list[torch.Tensor]:
    """Logits with the quantizers that the candidate stands for switched on."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    switched = {
        "input_quantizer": candidate.activations,
        "k_bmm_quantizer": candidate.kv is not None,
        "v_bmm_quantizer": candidate.kv is not None,
    }
    found = []
    for name, module in model.named_modules():
        if isinstance(module, TensorQuantizer) and name.rpartition(".")[2] in switched and module.is_enabled:
            module._if_quant = switched[name.rpartition(".")[2]]
            found.append(module)
    with torch.no_grad():
        made = [model(torch.from_numpy(text), use_cache=False).logits[0] for text in texts]
    for module in found:
        module._if_quant = True
    return made


def compared(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> dict[str, float]:
    return {
        "difference": max(
            float((a.float() - b.float()).abs().max()) for a, b in zip(ours, theirs, strict=True)
        ),
        "differing": sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=True)),
        "logits": sum(a.numel() for a in ours),
        "largest": max(float(a.abs().max()) for a in ours),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
