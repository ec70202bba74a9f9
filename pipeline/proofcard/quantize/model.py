"""A Hugging Face model in memory, its weights in BF16, whatever the source stores."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from proofcard.checkpoint.source import Source, check_remote_code
from proofcard.config.schema import Model
from proofcard.errors import Stop

_DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def load(source: Source, model: Model, device: str, modules_cache: Path) -> Any:
    """The model on `device`, in evaluation mode. Remote code runs only when its digests are pinned.

    Raises:
        Stop: when code is not pinned, or the source lacks a weight or holds one the model does not know.
    """
    built = _from_config(source, model, modules_cache)
    check_whole(source, built)
    weights = {name: tensor(source, name) for name in source.weights()}
    built.load_state_dict(weights, strict=False, assign=True)
    if built.config.tie_word_embeddings:
        built.tie_weights()
    return built.requires_grad_(False).eval().to(device)


def skeleton(source: Source, model: Model, modules_cache: Path) -> Any:
    """The model without its weights: parameters on the meta device, computed buffers real, on the CPU.

    Raises as `load` does.
    """
    built = bare(source, model, modules_cache)
    check_whole(source, built)
    return built


def bare(source: Source, model: Model, modules_cache: Path) -> Any:
    """As `skeleton`, whatever weights the source holds: its configuration and code are enough.

    Raises:
        Stop: when code is not pinned.
    """
    from accelerate import init_empty_weights
    from transformers.modeling_utils import no_init_weights

    with no_init_weights(), init_empty_weights(include_buffers=False), _NoMemory():
        built = _from_config(source, model, modules_cache)
    return built.requires_grad_(False).eval()


class _NoMemory(TorchFunctionMode):
    """`torch.empty`, which makes every large parameter, on the meta device at once.

    Moved there after it was made, each would leave a hole in the heap into which the next does not fit, and
    deterministic torch fills what is empty: together the memory of the whole model.
    """

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return function(*args, **(kwargs or {}))


def check_whole(source: Source, model: Any) -> None:
    """Hold the names of the source against those of its model.

    Raises:
        Stop: naming the first weight that is missing or unknown.
    """
    known, found = set(model.state_dict()), set(source.weights())
    if absent := sorted(known - found - tied(model)):
        raise Stop(f"{source.path} lacks {absent[0]} ({len(absent)} weights in all): it is not whole")
    if unknown := sorted(found - known):
        raise Stop(f"{source.path} holds {unknown[0]} ({len(unknown)} in all), which its model does not know")


def tied(model: Any) -> set[str]:
    """Names of the weights that the model declares to be another one's."""
    return (
        set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    )


def _from_config(source: Source, model: Model, modules_cache: Path) -> Any:
    remote = check_remote_code(source.path, source.config, model.remote_code)
    _keep_remote_code_in(modules_cache)
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source.path, trust_remote_code=remote)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # its weights arrive dequantized
    return AutoModelForCausalLM.from_config(
        config, trust_remote_code=remote, dtype=torch.bfloat16, attn_implementation=model.attn_implementation
    )


def dtype(source: Source, name: str) -> torch.dtype:
    """The dtype of a weight as the model uses it."""
    return _DTYPES[source.dtype(name)]


def tensor(source: Source, name: str) -> torch.Tensor:
    """A weight as the model uses it, on the CPU, in memory of its own."""
    bits = np.array(source.bits(name))  # a copy: the model outlives the mapping and owns its weights
    made = torch.from_numpy(bits)
    wanted = dtype(source, name)
    return made if made.dtype == wanted else made.view(wanted)


def _keep_remote_code_in(folder: Path) -> None:
    """Point transformers' copy of remote code at a folder of ours, so that no home folder is written."""
    os.environ["HF_MODULES_CACHE"] = str(folder)
    import transformers.dynamic_module_utils

    vars(transformers.dynamic_module_utils)["HF_MODULES_CACHE"] = str(folder)  # it was read at import
