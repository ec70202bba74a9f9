"""python benchmarks/wide_checkpoint.py SOURCE FOLDER

What `quantize` would make of a wide source (`wide_source.py`), without running the model: experts in NVFP4,
the rest in BF16, every calibrated scale the same number, configurations, sealed. The levels of `verify` that
run by default hold. Written tensor by tensor, never whole in memory.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from proofcard import manifest
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import output_tables
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.digest import file_table
from proofcard.verify.inventory import fused_groups
from proofcard.verify.recompute import group_scale_2, quantize

SCALES = {"input_scale": np.float32(0.01), "k_scale": np.float32(0.02), "v_scale": np.float32(0.02)}
PRODUCER = {"name": "modelopt", "version": "0.43.0"}


def make_checkpoint(source: Source, folder: Path) -> None:
    """Write and seal it."""
    folder.mkdir(parents=True)
    names = source.weights()
    linears = [name.removesuffix(".weight") for name in names if ".experts." in name]
    attention = sorted({name.rpartition(".self_attn.")[0] for name in names if ".self_attn." in name})
    entries = [entry for name in names for entry in _entries(source, name)]
    cache = [f"{layer}.self_attn.{kind}_proj.{kind}_scale" for layer in attention for kind in "kv"]
    entries += [Entry(name, "F32", ()) for name in cache]
    with Writer(folder, layout(entries, 0)) as writer:
        writer.allocate()
        for group in fused_groups(linears):
            shared = group_scale_2(source, group)
            for module in group:
                for leaf, bits in quantize(source, module, shared).items():
                    writer.write(f"{module}.{leaf}", bits)
        for entry in entries:
            if (value := SCALES.get(entry.name.rpartition(".")[2])) is not None:
                writer.write(entry.name, value)
            elif entry.name in names and ".experts." not in entry.name:
                writer.write(entry.name, source.bits(entry.name))
    configure(source, folder, attention)
    seal(source.path, folder)


def _entries(source: Source, name: str) -> list[Entry]:
    """The tensors that a weight of the source becomes."""
    shape = source.tensors[name].shape
    if ".experts." not in name:
        return [Entry(name, source.dtype(name), shape)]
    (rows, columns), module = shape, name.removesuffix(".weight")
    return [
        Entry(name, "U8", (rows, columns // 2)),
        Entry(f"{module}.weight_scale", "F8_E4M3", (rows, columns // 16)),
        Entry(f"{module}.weight_scale_2", "F32", ()), Entry(f"{module}.input_scale", "F32", ()),
    ]  # fmt: skip


def configure(source: Source, folder: Path, layers: list[str]) -> None:
    """The source's other files, and what ModelOpt adds to the configurations."""
    for path in source.path.iterdir():
        if path.suffix in (".py", ".json", ".jinja") and "index" not in path.name:
            shutil.copyfile(path, folder / path.name)
    ignore = ["lm_head", *(f"{layer}.self_attn*" for layer in layers)]
    ignore += [name.removesuffix(".weight") for name in source.weights() if name.endswith(".gate.weight")]
    part = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "config_groups": {"group_0": {"input_activations": part, "weights": part, "targets": ["Linear"]}},
        "ignore": ignore, "quant_algo": "NVFP4", "producer": PRODUCER, "quant_method": "modelopt",
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    said = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": ignore}
    (folder / "hf_quant_config.json").write_text(json.dumps({"producer": PRODUCER, "quantization": said}))


def seal(source: Path, folder: Path) -> None:
    """A manifest of what is there; it records no settings and no platform."""
    body = {
        "schema": manifest.SCHEMA, "stage": "quantize", "key": "0" * 64, "config": {}, "seeds": {},
        "inputs": {"source": {"files": file_table(source, source.iterdir())}}, "toolchain": {},
        "platform": {}, "statistics": {},
        "outputs": dict(zip(("files", "tensors"), output_tables(folder), strict=True)),
    }  # fmt: skip
    (folder / manifest.NAME).write_text(manifest.seal(body), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    said = parser.parse_args()
    make_checkpoint(Source(said.source), said.folder)


if __name__ == "__main__":
    main()
