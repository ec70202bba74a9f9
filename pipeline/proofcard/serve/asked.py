"""The engine options of a profile and the properties of a checkpoint that have to match."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard.checkpoint.configuration import declared, quantization_of, read_quantization
from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.config.serving import Flag, Serving
from proofcard.errors import Stop, Usage
from proofcard.files import plain
from proofcard.serve.reasoning import template_leaves_thinking_to_the_model

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_WIDTHS = ("moe_intermediate_size", "intermediate_size")

_NEEDED = ("num_attention_heads", "num_hidden_layers", "hidden_size", "max_position_embeddings")
_COUNTS = ("num_key_value_heads", "head_dim", *_EXPERTS, *_WIDTHS)
_PARTS = (
    "text_config",
    "llm_config",
    "language_config",
)  # where multi-modal models keep the language model's settings

Option = Mapping[str, tuple[str, ...]]

# Each option's spellings, the engine's own first; SGLang also accepts prefixes.
TP = {"sglang": ("tp-size", "tensor-parallel-size", "tp"), "vllm": ("tensor-parallel-size",)}
EP = {"sglang": ("ep-size", "expert-parallel-size", "ep"), "vllm": ()}
KV = {"sglang": ("kv-cache-dtype",), "vllm": ("kv-cache-dtype",)}
MOE = {"sglang": ("moe-runner-backend",), "vllm": ("moe-backend",)}
FRACTION = {"sglang": ("mem-fraction-static",), "vllm": ("gpu-memory-utilization",)}
CONTEXT = {"sglang": ("context-length",), "vllm": ("max-model-len",)}
CAP = {"sglang": ("max-running-requests",), "vllm": ("max-num-seqs",)}


class Asked:
    """A profile's flags by meaning, independent of their spelling."""

    def __init__(self, serving: Serving) -> None:
        self.engine = serving.engine
        self.profile = serving.name
        self._flags = {name.replace("_", "-"): value for name, value in serving.flags.items()}

    def spelling(self, option: Option) -> str:
        """The profile's spelling of an option, or the engine's if the profile does not set it."""
        names = option[self.engine]
        return next((name for name in names if name in self._flags), names[0])

    def override(self, name: str) -> str:
        """What to write before `=` on the command line to set a flag."""
        return f"{'' if name in self._flags else '+'}serving.flags.{name}"

    def value(self, option: Option) -> Flag:
        """The profile's value, None if it is not set."""
        return self.flag(*option[self.engine])

    def flag(self, *names: str) -> Flag:
        """The value of the first of several flags that the profile sets."""
        return next((self._flags[name] for name in names if self._flags.get(name) is not None), None)

    def number(self, option: Option, otherwise: float) -> float:
        """The profile's value as a number; `otherwise` if it is not set or not a number."""
        value = self.value(option)
        try:
            return otherwise if value is None else float(value)
        except ValueError:
            return otherwise

    @property
    def tp(self) -> int:
        """GPUs that share every layer."""
        return int(self.number(TP, 1))

    @property
    def ep(self) -> int:
        """Number of groups that the experts are split into."""
        if self.engine == "vllm":
            return self.tp if self.flag("enable-expert-parallel") else 1
        return int(self.number(EP, 1))

    @property
    def kv(self) -> str:
        """The KV cache's dtype."""
        return str(self.value(KV) or "auto")

    @property
    def moe(self) -> str:
        """The MoE backend."""
        return str(self.value(MOE) or "auto")

    @property
    def attention(self) -> str | None:
        """The attention backend, None if the engine chooses."""
        value = self.flag("attention-backend")
        return None if value is None else str(value)


@dataclass(frozen=True)
class Facts:
    """A checkpoint's configuration, its tensors by name, and whether its experts are in NVFP4.

    `thinks_first`: its chat template starts answers within the reasoning, or that is not known.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    nvfp4: bool
    kv_fp8: bool
    thinks_first: bool = True

    @property
    def heads(self) -> int:
        """Attention heads."""
        return int(self.config["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        """KV heads."""
        return int(self.config.get("num_key_value_heads") or self.heads)

    @property
    def experts(self) -> int:
        """Experts per layer; 0 in a dense model."""
        return next((int(self.config[key]) for key in _EXPERTS if self.config.get(key)), 0)

    @property
    def expert_width(self) -> int:
        """The inner width of one expert."""
        return next((int(self.config[key]) for key in _WIDTHS if self.config.get(key)), 0)

    @property
    def context(self) -> int:
        """The model's maximum context length in tokens."""
        return int(self.config["max_position_embeddings"])

    def holds(self, *suffixes: str) -> bool:
        """Whether any tensor's name has one of these suffixes."""
        return any(name.endswith(suffixes) for name in self.tensors)


def text_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration's settings for its language model, at the top level or in a sub-configuration."""
    part: dict[str, Any] = next((config[key] for key in _PARTS if isinstance(config.get(key), dict)), {})
    return config | {key: value for key, value in part.items() if value is not None}


def facts(checkpoint: Path, config: dict[str, Any]) -> Facts:
    """Read headers and quantization config, but no weights.

    Raises:
        Usage: when the checkpoint has no readable tensors, or required keys are missing in its configuration.
    """
    config = text_settings(config)
    if missing := [key for key in _NEEDED if key not in config]:
        raise Usage(f"{checkpoint / 'config.json'} has no {', '.join(missing)}")
    for key in (*_NEEDED, *_COUNTS):
        value = config.get(key)
        needed = key in _NEEDED
        if (value is not None or needed) and (type(value) is not int or not needed <= value < 1 << 40):
            raise Usage(
                f"{checkpoint / 'config.json'} has {key}={plain(value, 40)}, which is not a valid number"
            )
    try:
        tensors = read_folder(checkpoint)
        check_counts(config, checkpoint, tensors.values())
        quantization = read_quantization(checkpoint)
        inner = quantization_of(config, checkpoint)
    except Stop as stop:
        raise Usage(str(stop)) from None
    algorithm, _ = declared(config, quantization)
    part = quantization.get("quantization")
    outer: dict[str, Any] = part if isinstance(part, dict) else {}
    scheme = inner.get("kv_cache_scheme")
    kv_bits = scheme.get("num_bits") if isinstance(scheme, dict) else None
    kv_fp8 = kv_bits == 8 or "FP8" in str(outer.get("kv_cache_quant_algo") or scheme).upper()
    thinks_first = not template_leaves_thinking_to_the_model(checkpoint)
    return Facts(config, tensors, "NVFP4" in algorithm, kv_fp8, thinks_first)
