"""A Hugging Face checkpoint as a source of weights: its files, configuration, and tensors in BF16."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import carried, floats, fp8
from proofcard.checkpoint.configuration import read_config
from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.download import Download
from proofcard.checkpoint.shards import weight_files
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.cores import cores
from proofcard.digest import file_table
from proofcard.errors import Stop
from proofcard.files import check_handed

SCALE_SUFFIX = fp8.SCALE


class Source:
    """A checkpoint folder. FP8 weights are read as `bf16(float32(w) * float32(scale_inv))`.

    Other floats are read as stored until `set_dtypes` gives the model's dtypes. With a `download`, shards may
    still be missing: reading a tensor waits for its shard.
    """

    def __init__(self, path: Path, download: Download | None = None) -> None:
        """Read configuration and headers. Raises Stop when the folder is not a usable checkpoint."""
        self.path = path
        self.config = read_config(path)
        check_handed(path)
        self._download = download
        self.tensors: dict[str, Tensor] = download.tensors() if download else read_folder(path)
        check_counts(self.config, path, self.tensors.values())
        self.block = fp8.block_size(self.config, path)
        self._dtypes: dict[str, str] = {}

    def weights(self) -> list[str]:
        """Names of the model's own tensors: all but the FP8 scales, sorted."""
        return sorted(name for name in self.tensors if not self._is_scale(name))

    def bits(self, name: str) -> np.ndarray:
        """Raw bits of a tensor in the model's dtype: FP8 dequantized to BF16, others as in `set_dtypes`."""
        tensor = self.stored(name)
        if not self.is_fp8(name):
            return floats.converted(tensor.bits(), tensor.dtype, self.dtype(name))
        scales = self.fp8_scales(name)
        return nvfp4.fp8_block_to_bf16(tensor.bits(), scales, block=self.block, threads=cores())

    def unrounded(self, name: str) -> np.ndarray:
        """An FP8 tensor's product with its scales in float32, before BF16 rounds it."""
        return nvfp4.fp8_block_to_f32(self.stored(name).bits(), self.fp8_scales(name), block=self.block)

    def set_dtypes(self, dtypes: dict[str, str]) -> None:
        """Set the model's dtype of each weight, which `bits` and `dtype` then use."""
        self._dtypes = dtypes

    def is_fp8(self, name: str) -> bool:
        """Whether a weight is stored in FP8."""
        return name in self.tensors and self.tensors[name].dtype == "F8_E4M3"

    def stored(self, name: str) -> Tensor:
        """A tensor as stored, waiting for its file if needed. Raises Stop when the download fails."""
        tensor = self.tensors[name]
        if self._download is not None:
            self._download.wait(tensor.path.name)
        return tensor

    def here(self, name: str) -> bool:
        """Whether a tensor's file is present, so that `stored` does not wait."""
        return self._download is None or self.tensors[name].path.name not in self._download.missing

    def fp8_scale(self, name: str) -> Tensor:
        """The block scales of an FP8 tensor. Raises Stop when they are missing."""
        if name + SCALE_SUFFIX not in self.tensors:
            raise Stop(f"{self.path}: {name} is FP8 without {name}{SCALE_SUFFIX}")
        return self.stored(name + SCALE_SUFFIX)

    def fp8_scales(self, name: str) -> np.ndarray:
        """The block scales of an FP8 tensor in float32, whatever dtype they are stored in."""
        scale = self.fp8_scale(name)
        return floats.converted(scale.bits(), scale.dtype, "F32")

    def dtype(self, name: str) -> str:
        """The safetensors dtype of what `bits` returns."""
        return "BF16" if self.is_fp8(name) else self._dtypes.get(name, self.tensors[name].dtype)

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file that `carried.belongs` to the source.

        Safetensors files that are not part of the weights are skipped.
        """
        if self._download is not None:
            return self._download.files()
        weights = set(weight_files(self.path))
        files = [p for p in carried.files_of(self.path) if p.suffix != ".safetensors" or p in weights]
        return file_table(self.path, files)

    def downloading(self) -> AbstractContextManager[None]:
        """A context in which missing shards are downloaded in the background."""
        return self._download.downloading() if self._download else nullcontext()

    def wait_for_all(self) -> None:
        """Wait until every file is downloaded and checked. Raises Stop when the download fails."""
        if self._download is not None:
            self._download.wait_for_all()

    def _is_scale(self, name: str) -> bool:
        return name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in self.tensors
