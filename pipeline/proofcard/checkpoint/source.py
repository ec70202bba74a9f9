"""A Hugging Face checkpoint as a source of weights: its files, its configuration, its tensors in BF16."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import carried, floats, fp8
from proofcard.checkpoint.configuration import read_config
from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.delivery import Delivery
from proofcard.checkpoint.shards import weight_files
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.cores import cores
from proofcard.digest import file_table
from proofcard.errors import Stop
from proofcard.files import check_handed

SCALE_SUFFIX = fp8.SCALE


class Source:
    """A checkpoint folder. FP8 weights are read as `bf16(float32(w) * float32(scale_inv))`.

    Other floats are read as stored until `held_in` says in which dtype the model holds them. With a
    `delivery` shards may still be on their way: a tensor is waited for when it is read.
    """

    def __init__(self, path: Path, delivery: Delivery | None = None) -> None:
        """Read configuration and headers. Raises Stop when the folder is no usable checkpoint."""
        self.path = path
        self.config = read_config(path)
        check_handed(path)
        self._delivery = delivery
        self.tensors: dict[str, Tensor] = delivery.tensors() if delivery else read_folder(path)
        check_counts(self.config, path, self.tensors.values())
        self.block = fp8.block_size(self.config, path)
        self._held: dict[str, str] = {}

    def weights(self) -> list[str]:
        """Names of the model's own tensors: all but the FP8 scales, sorted."""
        return sorted(name for name in self.tensors if not self._is_scale(name))

    def bits(self, name: str) -> np.ndarray:
        """Raw bits of a tensor as the model holds it: FP8 dequantized to BF16, others by `held_in`."""
        tensor = self.stored(name)
        if not self.is_fp8(name):
            return floats.converted(tensor.bits(), tensor.dtype, self.dtype(name))
        scales = self.fp8_scales(name)
        return nvfp4.fp8_block_to_bf16(tensor.bits(), scales, block=self.block, threads=cores())

    def unrounded(self, name: str) -> np.ndarray:
        """An FP8 tensor's product with its scales in float32, before BF16 rounds it."""
        return nvfp4.fp8_block_to_f32(self.stored(name).bits(), self.fp8_scales(name), block=self.block)

    def held_in(self, dtypes: dict[str, str]) -> None:
        """Say in which dtype the model holds its weights, by name: `bits` and `dtype` follow it."""
        self._held = dtypes

    def is_fp8(self, name: str) -> bool:
        """Whether it is a weight of the model that is stored in FP8."""
        return name in self.tensors and self.tensors[name].dtype == "F8_E4M3"

    def stored(self, name: str) -> Tensor:
        """A tensor as it is stored, once its file is here. Raises Stop when its download fails."""
        tensor = self.tensors[name]
        if self._delivery is not None:
            self._delivery.wait(tensor.path.name)
        return tensor

    def here(self, name: str) -> bool:
        """Whether a tensor's file is here, so that `stored` does not wait."""
        return self._delivery is None or self.tensors[name].path.name not in self._delivery.missing

    def fp8_scale(self, name: str) -> Tensor:
        """The scales of an FP8 tensor's blocks. Raises Stop when they are missing."""
        if name + SCALE_SUFFIX not in self.tensors:
            raise Stop(f"{self.path}: {name} is FP8 without {name}{SCALE_SUFFIX}")
        return self.stored(name + SCALE_SUFFIX)

    def fp8_scales(self, name: str) -> np.ndarray:
        """The scales of an FP8 tensor's blocks in float32, whatever float they are stored in."""
        scale = self.fp8_scale(name)
        return floats.converted(scale.bits(), scale.dtype, "F32")

    def dtype(self, name: str) -> str:
        """The safetensors dtype of what `bits` returns."""
        return "BF16" if self.is_fp8(name) else self._held.get(name, self.tensors[name].dtype)

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file that `carried.belongs` to the source.

        Safetensors files that do not count are left out.
        """
        if self._delivery is not None:
            return self._delivery.files()
        weights = set(weight_files(self.path))
        files = [p for p in carried.files_of(self.path) if p.suffix != ".safetensors" or p in weights]
        return file_table(self.path, files)

    def arriving(self) -> AbstractContextManager[None]:
        """A context in which what is missing arrives in the background."""
        return self._delivery.arriving() if self._delivery else nullcontext()

    def whole(self) -> None:
        """Until every file is here, its digest right. Raises Stop when its download fails."""
        if self._delivery is not None:
            self._delivery.whole()

    def _is_scale(self, name: str) -> bool:
        return name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in self.tensors
