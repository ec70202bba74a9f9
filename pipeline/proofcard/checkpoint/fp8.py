"""FP8 sources. One layout is supported: E4M3 weights with one scale per block of rows and columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofcard.checkpoint.floats import is_float
from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop
from proofcard.nvfp4 import FP8_BLOCK

SCALE = "_scale_inv"
_OTHER_FP8 = ("F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_OTHER_SCALES = (".weight_scale", ".input_scale", ".activation_scale")
_DECLARED = ("quantization_config", "compression_config")


def block_size(config: dict[str, Any], path: Path) -> tuple[int, int]:
    """Rows and columns that share a scale according to config.json; 128 × 128 by default.

    Raises:
        Stop: when the source is quantized in an unsupported way.
    """
    declared: Any = next((config[key] for key in _DECLARED if config.get(key)), None)
    if declared is None:
        return FP8_BLOCK
    where = f"{path / 'config.json'}: quantization_config"
    if not isinstance(declared, dict):
        raise Stop(f"{where} is not a JSON object: use an FP8 or BF16 source")
    method = declared.get("quant_method")
    if method != "fp8":
        raise Stop(f"{path} is already quantized ({method}): use an FP8 or BF16 source")
    if declared.get("fmt") not in (None, "e4m3", "float8_e4m3fn"):
        raise Stop(f"{where} has fmt={declared['fmt']!r}, but only E4M3 is supported: use a BF16 source")
    block = declared.get("weight_block_size", list(FP8_BLOCK))
    if block is None:
        raise Stop(
            f"{where} has weight_block_size=null: FP8 weights with one scale per tensor or row are not "
            "supported; use a source in BF16, or in FP8 with block scales"
        )
    whole = isinstance(block, list) and len(block) == 2 and all(type(side) is int for side in block)
    if not whole or min(block) < 1:
        raise Stop(f"{where} has weight_block_size={block!r}: it must be two positive integers")
    return block[0], block[1]


def is_declared(config: dict[str, Any]) -> bool:
    """Whether config.json declares FP8 weights."""
    return any(config.get(key) for key in _DECLARED)


def check(tensors: Mapping[str, Tensor], block: tuple[int, int], path: Path) -> None:
    """Check that every FP8 weight has scales, that they are floats, and that there is one per block.

    Raises:
        Stop: naming the first tensor that is wrong.
    """
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype in _OTHER_FP8:
            raise Stop(f"{path}: {name} is {tensor.dtype}, but only E4M3 is supported: use a BF16 source")
        if tensor.dtype == "F8_E4M3":
            _check_weight(tensor, tensors, block, path)
        elif name + SCALE in tensors:
            raise Stop(
                f"{path}: {name} is {tensor.dtype} but also has {name}{SCALE}: it is unclear whether the "
                "scale applies; remove it if the weight is already dequantized"
            )


def _check_weight(weight: Tensor, tensors: Mapping[str, Tensor], block: tuple[int, int], path: Path) -> None:
    name = weight.name
    scale = tensors.get(name + SCALE)
    if scale is None:
        other = next((o for o in _OTHER_SCALES if name.removesuffix(".weight") + o in tensors), None)
        hint = f" (there is {name.removesuffix('.weight')}{other})" if other else ""
        raise Stop(
            f"{path}: {name} is FP8 without {name}{SCALE}{hint}: FP8 weights need block scales under that "
            "name"
        )
    if len(weight.shape) != 2:
        raise Stop(
            f"{path}: {name} is FP8 of shape {list(weight.shape)}: only matrices are supported, one per "
            "expert"
        )
    if not is_float(scale.dtype):
        raise Stop(f"{path}: {scale.name} is {scale.dtype}: scales must be floats")
    expected = tuple(-(-size // side) for size, side in zip(weight.shape, block, strict=True))
    if scale.shape != expected:
        raise Stop(
            f"{path}: {scale.name} has shape {list(scale.shape)}, but {name}, {list(weight.shape)} in "
            f"blocks of {block[0]} × {block[1]}, needs {list(expected)}"
        )
