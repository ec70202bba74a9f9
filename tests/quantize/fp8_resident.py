"""Is `dequantize_to=float32` what ModelOpt writes of a model that transformers has loaded in FP8? On a GPU:

    python tests/quantize/fp8_resident.py [OVERRIDES…]

Quantizes the demo with engine=layerwise, then as FP8-resident with ModelOpt, and compares every tensor. Exit
status 0: all bytes are equal. Two things are put right first: patch 0005 of toolchain=fixed, which unpacks to
BF16, is undone, and what the source holds in float32, `weight_scale_inv` among it, is restored: transformers
4.57 casts it to BF16 when it loads. Without a GPU transformers is told not to ask for one.
"""

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from proofcard.calibration.batches import batches, read_samples
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.config import QuantizeConfig, compose
from proofcard.quantize import preparing
from proofcard.quantize.command import execute

CUDA = torch.cuda.is_available()


def main(overrides: list[str]) -> int:
    """Both checkpoints into a temporary folder; prints what differs."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        where = [f"work_dir={folder}/runs", f"output_dir={folder}/layerwise", "tracking=off"]
        asked = ["quantization.dequantize_to=float32", f"hardware.device={'cuda' if CUDA else 'cpu'}", *where]
        config = compose(QuantizeConfig, "config", [*asked, *overrides])
        execute(config)  # ModelOpt is the patched copy from here on
        export_resident(config, folder)
        return compare(read_folder(folder / "layerwise"), read_folder(folder / "resident"))


def export_resident(config: QuantizeConfig, folder: Path) -> None:
    """ModelOpt's own path over the same samples, the weights in FP8 until `unpack_weight`."""
    from transformers import AutoModelForCausalLM
    from transformers.integrations.finegrained_fp8 import FP8Linear
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    from proofcard.quantize import modelopt

    source = Source(config.model.path)
    samples = next(path.parent for path in (folder / "runs" / "samples").glob("[!.]*/manifest.json"))
    groups = list(batches(read_samples(samples), config.calibration, preparing.pad_id(config, source)))
    asks_nothing = patch.object(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    with nullcontext() if CUDA else asks_nothing:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.path, trust_remote_code=True, dtype="auto", device_map="cuda" if CUDA else "cpu",
            attn_implementation=config.model.attn_implementation,
        ).eval()  # fmt: skip
    resident = [module for module in model.modules() if isinstance(module, FP8Linear)]
    assert len(resident) == sum(map(source.is_fp8, source.weights()))
    assert all(module.weight.dtype == torch.float8_e4m3fn for module in resident)
    print(f"float32 tensors that loading had changed: {restored(source, model)}")
    model = modelopt.calibrate(model, groups, config, lambda *_: None)
    with unpacking_to_the_default_dtype():
        modelopt.export(model, folder / "resident")


def restored(source: Source, model: Any) -> int:
    """The source's own float32 tensors into the model; returns how many were others."""
    changed = 0
    for name, stored in source.tensors.items():
        if stored.dtype == "F32":
            module, _, leaf = name.rpartition(".")
            loaded = getattr(model.get_submodule(module), leaf)
            own = torch.from_numpy(np.array(stored.bits())).to(loaded.device)
            changed += not torch.equal(loaded.data.float(), own)
            loaded.data = own
    return changed


def unpacking_to_the_default_dtype() -> Any:
    """ModelOpt 0.43.0 as released: `unpack_weight` takes torch's default dtype, float32."""
    from modelopt.torch.quantization.plugins.huggingface import _QuantFP8Linear

    fixed = _QuantFP8Linear.unpack_weight
    released = lambda self, dtype=None: fixed(self, torch.get_default_dtype())  # noqa: E731
    return patch.object(_QuantFP8Linear, "unpack_weight", released)


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> int:
    """Print every tensor that differs, and how many bytes do."""
    count = 0
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None or (one.dtype, one.shape) != (other.dtype, other.shape):
            print(f"{name}: {_said(one)} by layerwise, {_said(other)} by ModelOpt")
            count += max(tensor.size for tensor in (one, other) if tensor is not None)
        elif differing := int((one.raw() != other.raw()).sum()):
            print(f"{name}: {differing} of {one.size} bytes")
            count += differing
    wide = sum(tensor.dtype == "F32" and name.endswith("_proj.weight") for name, tensor in ours.items())
    print(f"{len(theirs)} tensors, {wide} projections in F32, {count} bytes differ")
    return int(count > 0 or wide == 0)


def _said(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
