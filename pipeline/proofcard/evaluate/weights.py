"""A quantized checkpoint as a source of weights: what its stored bytes are worth, never quantized again."""

import os
from pathlib import Path

import numpy as np

from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects.layouts import Layout
from proofcard.checkpoint.dialects.view import View
from proofcard.checkpoint.source import Source, read_config
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.writer import Entry
from proofcard.errors import Stop
from proofcard.evaluate.candidates import Stored
from proofcard.serve import layouts
from proofcard.serve.layouts import BLOCK

_KV = ("k_scale", "v_scale", "k_bias", "v_bias")


class Checkpoint:
    """A checkpoint folder whose weights are read as `proofcard.checkpoint.source.Source` reads a source's.

    NVFP4 weights, as ModelOpt, llm-compressor or auto-round stores them, become BF16 by `layouts.Linear`.
    Other floats are read as stored until `set_dtypes` gives the model's dtypes.
    """

    def __init__(self, path: Path, source: Source | None = None) -> None:
        """Read configuration and headers. With a `source`, tensors have the source's names.

        Raises:
            Usage: for a layout that is not known; it is named.
            Stop: when the folder is not a usable checkpoint.
        """
        self.path = path
        self.config = read_config(path)
        readable = layouts.readable(path, self.config, len(os.sched_getaffinity(0)), source)
        if readable is None:
            plain = Source(path)
            entries = {n: Entry(n, plain.dtype(n), plain.tensors[n].shape) for n in plain.weights()}
            readable = layouts.Weights(entries, plain.bits, View(plain.tensors))
        self.files: dict[str, Tensor] = readable.view.tensors
        self.tensors: dict[str, Entry] = readable.entries
        self.names = readable.view.mappings
        self.source = readable.source or source
        self.packed = readable.linears
        self._bits = readable.bits
        self._dtypes: dict[str, str] = {}

    def weights(self) -> list[str]:
        """Names of the model's own tensors, sorted: scales are none of them."""
        return sorted(self.tensors)

    def bits(self, name: str) -> np.ndarray:
        """Raw bits of a weight as the model holds it."""
        return floats.converted(self._bits(name), self.tensors[name].dtype, self.dtype(name))

    def dtype(self, name: str) -> str:
        """The safetensors dtype of what `bits` returns."""
        return self._dtypes.get(name, self.tensors[name].dtype)

    def set_dtypes(self, dtypes: dict[str, str]) -> None:
        """Say in which dtype the model holds its weights, by name."""
        self._dtypes = dtypes

    def is_packed(self, name: str) -> bool:
        """Whether a weight is stored as NVFP4 codes."""
        return name in self.packed

    def linears(self) -> list[str]:
        """Names of the quantized linears, sorted."""
        return [name.removesuffix(".weight") for name in self.weights() if self.is_packed(name)]

    def holds(self) -> Stored:
        """Which scales it stores; those of inputs count when every linear in blocks of 16 has one."""
        leaves = {name.rpartition(".")[2] for name in self.files}
        linears = self.packed.values()
        return Stored(
            input_scales=bool(linears) and all(each.inputs and each.block == BLOCK for each in linears),
            kv_scales={"k_scale", "v_scale"} <= leaves,
            kv_biases={"k_bias", "v_bias"} <= {n.rpartition(".")[2] for n in self.files if _of_a_cache(n)},
        )

    def layout(self, linear: str) -> Layout:
        """How a linear is stored, by which its input scale is a factor or a divisor."""
        return self.packed[f"{linear}.weight"].layout

    def input_scale(self, linear: str) -> np.float32:
        """The scale of a linear's input, as it is stored: see `layout`.

        Raises:
            Stop: when it is not a finite number above zero.
        """
        return self._scale(f"{linear}.input_scale")

    def kv(self, attention: str) -> dict[str, np.ndarray]:
        """What an attention's cache has: `k_scale`, `v_scale`, float32; `k_bias`, `v_bias`, BF16 bits."""
        stored: dict[str, np.ndarray] = {}
        for leaf in _KV:
            names = (f"{attention}.{leaf[0]}_proj.{leaf}", f"{attention}.{leaf}")
            name = next((name for name in names if name in self.files), None)
            if name is None or (leaf.endswith("bias") and not _of_a_cache(name)):
                continue
            if leaf.endswith("scale"):
                stored[leaf] = np.asarray(self._scale(name))
            else:
                tensor = self.files[name]
                stored[leaf] = floats.converted(tensor.bits(), tensor.dtype, "BF16")
        return stored

    def stored(self, name: str) -> Tensor:
        """A tensor as it is stored."""
        return self.files[name]

    def _scale(self, name: str) -> np.float32:
        tensor = self.files[name]
        values = floats.converted(tensor.bits(), tensor.dtype, "F32").reshape(-1)
        if values.size != 1 or not (np.isfinite(values[0]) and values[0] > 0):
            raise Stop(
                f"{self.path}: {tensor.name} is not one finite number above zero: see proofcard verify"
            )
        return np.float32(values[0])


def _of_a_cache(name: str) -> bool:
    """`…k_proj.k_bias`, not the bias of a projection that some model calls k_bias."""
    return name.endswith((".k_proj.k_bias", ".v_proj.v_bias"))
