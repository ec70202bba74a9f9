"""What ModelOpt would quantize and export, according to ModelOpt itself on the model without weights.

Its quantizers are inserted on the meta device by its own rules; the result shows which are enabled, the
quantization config, and the order of the checkpoint's tensors.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import Entry
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop
from proofcard.nvfp4 import BLOCK
from proofcard.quantize.fit import tied
from proofcard.quantize.model import dtype
from proofcard.quantize.quantizers import check_width, with_quantizers

_KV_NAMES = {
    "k_bmm_quantizer._amax": "k_proj.k_scale",
    "v_bmm_quantizer._amax": "v_proj.v_scale",
    "k_bmm_quantizer._bias_value": "k_proj.k_bias",
    "v_bmm_quantizer._bias_value": "v_proj.v_bias",
}
_NAMES = {
    torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64",
    torch.uint8: "U8", torch.float8_e4m3fn: "F8_E4M3", torch.int64: "I64", torch.int32: "I32",
    torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A mixture-of-experts block: its name, its experts, and the module that has `top_k`."""

    name: str
    experts: tuple[str, ...]
    top_k_owner: str


@dataclass
class Layer:
    """The quantized modules of one decoder layer, by full name, in the model's order."""

    name: str
    linears: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    attentions: list[str] = field(default_factory=list)

    def experts(self) -> list[str]:
        """The experts of all blocks."""
        return [expert for block in self.blocks for expert in block.experts]

    def owners(self) -> dict[str, str]:
        """The expert that each linear of an expert belongs to."""
        experts = set(self.experts())
        owners = {}
        for name in self.linears:
            home = name
            while home and home not in experts:
                home = home.rpartition(".")[0]
            if home:
                owners[name] = home
        return owners


class Structure:
    """The decoder's layers, ModelOpt's KV quantizers, and the tensors of the checkpoint."""

    def __init__(self, source: Source, config: QuantizeConfig, bare: Any) -> None:
        """`bare` is `skeleton`'s model; it is converted in place.

        Raises:
            Stop: when the format selects something outside the decoder layers.
        """
        self._source = source
        self._float32 = config.quantization.dequantize_to == "float32"
        self.prefix = layers_name(bare)
        self.model = with_quantizers(bare, config)
        self._by_name = dict(self.model.named_modules())
        self.layers = self._read_layers()

    def kv_quantizers(self, attention: str) -> tuple[Any, Any]:
        """ModelOpt's quantizers of an attention's keys and values."""
        module = self._by_name[attention]
        return module.k_bmm_quantizer, module.v_bmm_quantizer

    def _read_layers(self) -> list[Layer]:
        from modelopt.torch.quantization.nn import TensorQuantizer

        layers = [Layer(f"{self.prefix}.{i}") for i in range(len(self._by_name[self.prefix]))]
        enabled = 0
        for name, module in self._by_name.items():
            if isinstance(module, TensorQuantizer) and module.is_enabled:
                enabled += 1
            index = self._layer_of(name)
            if index is None:
                continue
            layer = layers[index]
            if _enabled(module, "input_quantizer") and _enabled(module, "weight_quantizer"):
                layer.linears.append(name)
            if _enabled(module, "k_bmm_quantizer") and _enabled(module, "v_bmm_quantizer"):
                layer.attentions.append(name)
            if hasattr(module, "_moe_calib_experts_ratio"):
                layer.blocks.append(_block(name, module))
        understood = sum(2 * len(layer.linears) + 2 * len(layer.attentions) for layer in layers)
        if understood != enabled:
            raise Stop(
                f"ModelOpt enables {enabled} quantizers in this model, {enabled - understood} of them "
                "outside the linear layers and attentions of the decoder: use engine=modelopt"
            )
        return layers

    def _layer_of(self, name: str) -> int | None:
        if not name.startswith(self.prefix + "."):
            return None
        return int(name[len(self.prefix) + 1 :].split(".", 1)[0])

    def describe_export(self, kv_shapes: dict[str, tuple[int, ...]]) -> tuple[list[Entry], int]:
        """Every tensor of the checkpoint in the order of ModelOpt's state dict, and the parameter count.

        `kv_shapes` gives the shape of an affine bias by quantizer name (`k_bmm_quantizer`, …).
        """
        for layer in self.layers:
            for name in layer.linears:
                _pack_on_meta(name, self._by_name[name])
            for name in layer.attentions:
                for kind in ("k_bmm_quantizer", "v_bmm_quantizer"):
                    quantizer = getattr(self._by_name[name], kind)
                    quantizer.register_buffer("_amax", torch.empty((), dtype=torch.float32, device="meta"))
                    if kind in kv_shapes:
                        bias = torch.empty(kv_shapes[kind], dtype=torch.bfloat16, device="meta")
                        quantizer.register_buffer("_bias_value", bias)
        entries = []
        left_out = tied(self.model)
        others = set(self._source.weights()) - self._packed()
        for name, value in self.model.state_dict().items():
            written = self._written(name) if name in others else value.dtype
            if name not in left_out:
                entries.append(Entry(_exported(name), _NAMES[written], tuple(value.shape)))
        return entries, self.model.num_parameters()

    def unrounded(self, name: str) -> bool:
        """Whether a weight is exported from its float32 product instead of the model's BF16 weight."""
        return self._float32 and self._source.is_fp8(name)

    def _written(self, name: str) -> torch.dtype:
        return torch.float32 if self.unrounded(name) else dtype(self._source, name)

    def _packed(self) -> set[str]:
        return {f"{name}.weight" for layer in self.layers for name in layer.linears}

    def write_settings(self, folder: Path) -> None:
        """Write hf_quant_config.json and a config.json with only the quantization, like ModelOpt's export."""
        from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
        from modelopt.torch.export.quant_utils import get_quant_config

        quant_config = get_quant_config(self.model)
        (folder / "hf_quant_config.json").write_text(json.dumps(quant_config, indent=4), encoding="utf-8")
        config = {"quantization_config": convert_hf_quant_config_format(quant_config)}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def layers_name(model: Any) -> str:
    """The full name of the decoder's list of layers.

    Raises:
        Stop: when the decoder has no module list `layers`.
    """
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise Stop(f"the decoder of {type(model).__name__} has no module list `layers`: use engine=modelopt")
    return next(name for name, module in model.named_modules() if module is layers)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as safetensors calls it: `BF16`, `F8_E4M3`, …"""
    return _NAMES[dtype]


def _enabled(module: Any, quantizer: str) -> bool:
    child = getattr(module, quantizer, None)
    return child is not None and child.is_enabled


def _block(name: str, module: Any) -> Block:
    owner = f"{name}.gate" if hasattr(getattr(module, "gate", None), "top_k") else name
    return Block(name, tuple(f"{name}.experts.{i}" for i in range(len(module.experts))), owner)


def _pack_on_meta(name: str, linear: Any) -> None:
    """Give a linear the tensors that ModelOpt's export gives it, in its order, without data."""
    rows, cols = linear.weight.shape
    check_width(name, cols)
    with torch.device("meta"):
        scale = torch.empty((rows, cols // BLOCK), dtype=torch.float8_e4m3fn)
        linear.register_buffer("weight_scale", scale)
        linear.register_buffer("input_scale", torch.empty((), dtype=torch.float32))
        linear.register_buffer("weight_scale_2", torch.empty((), dtype=torch.float32))
        packed = torch.empty((rows, cols // 2), dtype=torch.uint8)
        linear.weight = torch.nn.Parameter(packed, requires_grad=False)


def _exported(name: str) -> str:
    for ours, theirs in _KV_NAMES.items():
        if name.endswith(ours):
            return name.removesuffix(ours) + theirs
    return name
