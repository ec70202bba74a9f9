"""FP8 sources: one layout is understood, E4M3 weights with a scale for each block of rows and columns."""

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
    """Rows and columns that share a scale, as config.json says it; 128 × 128 where it says nothing.

    Raises:
        Stop: when the source is quantized in a way that is not understood.
    """
    declared: Any = next((config[key] for key in _DECLARED if config.get(key)), None)
    if declared is None:
        return FP8_BLOCK
    where = f"{path / 'config.json'}: quantization_config"
    if not isinstance(declared, dict):
        raise Stop(f"{where} is not a JSON object: give an FP8 or BF16 source")
    method = declared.get("quant_method")
    if method != "fp8":
        raise Stop(f"{path} is already quantized ({method}): give an FP8 or BF16 source")
    if declared.get("fmt") not in (None, "e4m3", "float8_e4m3fn"):
        raise Stop(f"{where} says fmt={declared['fmt']!r}: of FP8 only E4M3 is read; give a BF16 source")
    block = declared.get("weight_block_size", list(FP8_BLOCK))
    if block is None:
        raise Stop(
            f"{where} says weight_block_size=null: FP8 weights with one scale for a whole tensor or row are "
            "not read; give a source in BF16, or in FP8 with block scales"
        )
    whole = isinstance(block, list) and len(block) == 2 and all(type(side) is int for side in block)
    if not whole or min(block) < 1:
        raise Stop(f"{where} says weight_block_size={block!r}: it has to be two positive numbers")
    return block[0], block[1]


def is_declared(config: dict[str, Any]) -> bool:
    """Whether config.json says that the weights are in FP8."""
    return any(config.get(key) for key in _DECLARED)


def check(tensors: Mapping[str, Tensor], block: tuple[int, int], path: Path) -> None:
    """Hold every FP8 weight to its scales: there, floats, and one for each block.

    Raises:
        Stop: naming the first tensor that does not fit.
    """
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype in _OTHER_FP8:
            raise Stop(f"{path}: {name} is {tensor.dtype}: of FP8 only E4M3 is read; give a BF16 source")
        if tensor.dtype == "F8_E4M3":
            _check_weight(tensor, tensors, block, path)
        elif name + SCALE in tensors:
            raise Stop(
                f"{path}: {name} is {tensor.dtype} and yet has {name}{SCALE}: whether the scale counts "
                "cannot be known; remove it if the weight is dequantized already"
            )


def _check_weight(weight: Tensor, tensors: Mapping[str, Tensor], block: tuple[int, int], path: Path) -> None:
    name = weight.name
    scale = tensors.get(name + SCALE)
    if scale is None:
        other = next((o for o in _OTHER_SCALES if name.removesuffix(".weight") + o in tensors), None)
        beside = f", only {name.removesuffix('.weight')}{other}" if other else ""
        raise Stop(
            f"{path}: {name} is FP8 without {name}{SCALE}{beside}: FP8 is read with block scales under that "
            "name"
        )
    if len(weight.shape) != 2:
        raise Stop(
            f"{path}: {name} is FP8 of shape {list(weight.shape)}: only matrices are read, one for each "
            "expert"
        )
    if not is_float(scale.dtype):
        raise Stop(f"{path}: {scale.name} is {scale.dtype}: scales have to be floats")
    wanted = tuple(-(-size // side) for size, side in zip(weight.shape, block, strict=True))
    if scale.shape != wanted:
        raise Stop(
            f"{path}: {scale.name} has shape {list(scale.shape)}; {name}, {list(weight.shape)} in blocks of "
            f"{block[0]} by {block[1]}, needs {list(wanted)}"
        )
