"""A Hugging Face checkpoint as a source of weights: its files, its configuration, its tensors in BF16."""

import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.delivery import Delivery
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.digest import file_table, sha256_file
from proofcard.errors import Stop

SCALE_SUFFIX = "_scale_inv"


class Source:
    """A checkpoint folder. FP8 weights are read as `bf16(float32(w) * float32(scale_inv))`.

    With a `delivery` its shards may still be on their way: a tensor is waited for when it is read.
    """

    def __init__(self, path: Path, delivery: Delivery | None = None) -> None:
        """Read configuration and headers. Raises Stop when the folder is no usable checkpoint."""
        if not (path / "config.json").is_file():
            raise Stop(f"{path} is no checkpoint folder: it has no config.json")
        self.path = path
        self.config = _read_config(path / "config.json")
        self._delivery = delivery
        self.tensors: dict[str, Tensor] = delivery.tensors() if delivery else read_folder(path)
        said = self.config.get("quantization_config") or {}
        if said and said.get("quant_method") != "fp8":
            raise Stop(
                f"{path} is already quantized ({said.get('quant_method')}): give an FP8 or BF16 source"
            )
        block = said.get("weight_block_size") or [128, 128]
        self.block: tuple[int, int] = (int(block[0]), int(block[1]))

    def weights(self) -> list[str]:
        """Names of the model's own tensors: all but the FP8 scales, sorted."""
        return sorted(name for name in self.tensors if not self._is_scale(name))

    def bits(self, name: str) -> np.ndarray:
        """Raw bits of a tensor as the model uses it: FP8 dequantized to BF16 (uint16), others as stored."""
        tensor = self.stored(name)
        if not self.is_fp8(name):
            return tensor.bits()
        scale = self.fp8_scale(name)
        cores = len(os.sched_getaffinity(0))
        return nvfp4.fp8_block_to_bf16(tensor.bits(), scale.bits(), block=self.block, threads=cores)

    def unrounded(self, name: str) -> np.ndarray:
        """An FP8 tensor's product with its scales in float32, before BF16 rounds it."""
        return nvfp4.fp8_block_to_f32(self.stored(name).bits(), self.fp8_scale(name).bits(), block=self.block)

    def is_fp8(self, name: str) -> bool:
        """Whether it is a weight of the model that is stored in FP8."""
        return name in self.tensors and self.tensors[name].dtype == "F8_E4M3"

    def stored(self, name: str) -> Tensor:
        """A tensor as it is stored, once its file is here. Raises Stop when its download fails."""
        tensor = self.tensors[name]
        if self._delivery is not None:
            self._delivery.wait(tensor.path.name)
        return tensor

    def fp8_scale(self, name: str) -> Tensor:
        """The scales of an FP8 tensor's blocks. Raises Stop when they are missing."""
        if name + SCALE_SUFFIX not in self.tensors:
            raise Stop(f"{self.path}: {name} is FP8 without {name}{SCALE_SUFFIX}")
        return self.stored(name + SCALE_SUFFIX)

    def dtype(self, name: str) -> str:
        """The safetensors dtype of what `bits` returns."""
        return "BF16" if self.is_fp8(name) else self.tensors[name].dtype

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file at the top of the folder, hidden ones left out."""
        if self._delivery is not None:
            return self._delivery.files()
        return file_table(self.path, [p for p in self.path.iterdir() if p.is_file() and p.name[0] != "."])

    def arriving(self) -> AbstractContextManager[None]:
        """A context in which what is missing arrives in the background."""
        return self._delivery.arriving() if self._delivery else nullcontext()

    def whole(self) -> None:
        """Until every file is here, its digest right. Raises Stop when its download fails."""
        if self._delivery is not None:
            self._delivery.whole()

    def _is_scale(self, name: str) -> bool:
        return name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in self.tensors


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Stop(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise Stop(f"{path} is no configuration: it holds no JSON object")
    return config


def check_remote_code(path: Path, config: dict[str, Any], allowed: dict[str, str]) -> bool:
    """Whether the checkpoint brings code that must run; every Python file of it must be pinned.

    Raises:
        Stop: for a file whose sha256 is not the pinned one, or is pinned and missing.
    """
    needed = bool(config.get("auto_map"))
    found = {file.name: sha256_file(file) for file in sorted(path.glob("*.py"))}
    if not needed:
        return False
    for name in sorted(found.keys() | allowed.keys()):
        if found.get(name) != allowed.get(name):
            lines = "".join(f'\n  {file}: "{digest}"' for file, digest in found.items())
            raise Stop(
                f"{path / name} would be run, and its sha256 is {found.get(name, 'absent')}, not the pinned "
                f"{allowed.get(name, '(nothing)')}: read it, then pin it under model.remote_code:{lines}"
            )
    return True
