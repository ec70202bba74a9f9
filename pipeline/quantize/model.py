"""A Hugging Face model in memory, its weights in BF16, whatever the source stores."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint.source import Source, check_remote_code
from pipeline.config.schema import Model
from pipeline.errors import Stop

_DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def load(source: Source, model: Model, device: str, modules_cache: Path) -> Any:
    """The model on `device`, in evaluation mode. Remote code runs only when its digests are pinned.

    Raises:
        Stop: when code is not pinned, or the source lacks a weight or holds one the model does not know.
    """
    remote = check_remote_code(source.path, source.config, model.remote_code)
    _keep_remote_code_in(modules_cache)
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source.path, trust_remote_code=remote)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # its weights arrive dequantized
    built = AutoModelForCausalLM.from_config(
        config, trust_remote_code=remote, dtype=torch.bfloat16, attn_implementation=model.attn_implementation
    )
    tied = set(getattr(built, "_tied_weights_keys", None) or ()) if config.tie_word_embeddings else set()
    weights = {name: _tensor(source, name) for name in source.weights()}
    missing, unknown = built.load_state_dict(weights, strict=False, assign=True)
    if absent := [name for name in missing if name not in tied]:
        raise Stop(f"{source.path} lacks {absent[0]} ({len(absent)} weights in all): it is not whole")
    if unknown:
        raise Stop(f"{source.path} holds {unknown[0]} ({len(unknown)} in all), which its model does not know")
    if config.tie_word_embeddings:
        built.tie_weights()
    return built.requires_grad_(False).eval().to(device)


def _tensor(source: Source, name: str) -> torch.Tensor:
    bits = np.array(source.bits(name))  # a copy: the model outlives the mapping and owns its weights
    tensor = torch.from_numpy(bits)
    dtype = _DTYPES[source.dtype(name)]
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def _keep_remote_code_in(folder: Path) -> None:
    """Point transformers' copy of remote code at a folder of ours, so that no home folder is written."""
    os.environ["HF_MODULES_CACHE"] = str(folder)
    import transformers.dynamic_module_utils

    vars(transformers.dynamic_module_utils)["HF_MODULES_CACHE"] = str(folder)  # it was read at import
