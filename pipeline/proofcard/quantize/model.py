"""A Hugging Face model in memory with BF16 weights, whatever dtype the source stores."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from proofcard.checkpoint import remote_code
from proofcard.checkpoint.source import Source
from proofcard.config.schema import Model
from proofcard.errors import Stop, one_line
from proofcard.quantize import config_keys, fit, model_config

TORCH = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
"""torch's dtypes by safetensors' names."""


def load(source: Source, model: Model, device: str) -> Any:
    """The model on `device`, in evaluation mode. Remote code runs only if its digests are pinned.

    Raises:
        Stop: when code is not pinned, config.json is not supported, or the weights do not match it.
    """
    built = _from_config(source, model)
    fit.check(source, built)
    known = built.state_dict().keys()
    weights = {name: tensor(source, name) for name in source.weights() if name in known}
    built.load_state_dict(weights, strict=False, assign=True)
    if built.config.tie_word_embeddings:
        built.tie_weights()
    return built.requires_grad_(False).eval().to(device)


def skeleton(source: Source, model: Model) -> Any:
    """The model without its weights: parameters on the meta device, computed buffers real, on the CPU.

    Raises as `load` does.
    """
    built = bare(source, model)
    fit.check(source, built)
    return built


def bare(source: Source, model: Model) -> Any:
    """As `skeleton`, without checking the source's weights: configuration and code are enough.

    Raises:
        Stop: when code is not pinned.
    """
    from accelerate import init_empty_weights
    from transformers.modeling_utils import no_init_weights

    with no_init_weights(), init_empty_weights(include_buffers=False), _NoMemory():
        built = _from_config(source, model)
    return built.requires_grad_(False).eval()


class _NoMemory(TorchFunctionMode):
    """Puts `torch.empty`, which creates every large parameter, on the meta device at once.

    Moved there afterwards, each would leave a hole in the heap that is too small for the next, and
    deterministic torch fills uninitialized memory: together as much memory as the whole model.
    """

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return function(*args, **(kwargs or {}))


def _from_config(source: Source, model: Model) -> Any:
    """The model built from a private copy of config.json and of the pinned code, without any hub request.

    Checks every key of config.json, and passes the model's dtypes to the source.
    """
    folder, trusted = remote_code.for_model(source.path, model.remote_code)
    remote_code.keep_modules_here()
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    where = str(source.path / "config.json")
    try:
        config, translated = model_config.read(source.config, folder, trusted, where)
        built = AutoModelForCausalLM.from_config(
            config,
            trust_remote_code=trusted,
            dtype=torch.bfloat16,
            attn_implementation=model.attn_implementation,
        )
    except Stop:
        raise
    except Exception as error:  # from a library or from remote code: any type
        what = "its remote code or " if trusted else ""
        detail = f"{type(error).__name__}: {one_line(error, folder=folder)[:200]}"
        raise Stop(f"{source.path}: cannot build a model from {what}config.json: {detail}") from None
    config_keys.check(translated, built, model.ignored_keys, where)
    source.held_in(fit.held_in(source, built))
    return built


def dtype(source: Source, name: str) -> torch.dtype:
    """The dtype of a weight as the model uses it."""
    return TORCH[source.dtype(name)]


def tensor(source: Source, name: str) -> torch.Tensor:
    """A weight as the model uses it, on the CPU, as a copy."""
    loaded = torch.from_numpy(source.bits(name))
    wanted = dtype(source, name)
    return loaded if loaded.dtype == wanted else loaded.view(wanted)
