"""Small sources and sealed checkpoints of several architectures, without ModelOpt or torch."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors import TensorSpec, serialize_file

from proofcard import manifest, nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import output_tables, read_folder
from proofcard.config.schema import VerifyConfig
from proofcard.digest import file_table
from proofcard.verify import run

Tensors = dict[str, tuple[str, np.ndarray]]
HIDDEN, WIDTH, LAYERS, EXPERTS, VOCABULARY, FP8_BLOCK = 64, 48, 2, 3, 80, 32
NAMES = {
    "BF16": "bfloat16", "F32": "float32", "F16": "float16", "U8": "uint8", "F8_E4M3": "float8_e4m3fn",
}  # fmt: skip
PAIRS = {"w1": "w3", "w3": "w1", "gate_proj": "up_proj", "up_proj": "gate_proj"}
EXPERT_OF = {
    "minimax_m2": ("block_sparse_moe", ("w1", "w2", "w3")),
    "mixtral": ("block_sparse_moe", ("w1", "w2", "w3")),
    "qwen3_moe": ("mlp", ("gate_proj", "down_proj", "up_proj")),
}
ARCHITECTURES = (*EXPERT_OF, "llama")
W2 = "model.layers.1.block_sparse_moe.experts.2.w2"
W1, W3 = (W2.replace("w2", name) for name in ("w1", "w3"))


def weights(architecture: str, seed: int, experts: int = EXPERTS) -> Tensors:
    """BF16 weights under the names of an architecture; every linear with its own largest value."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> tuple[str, np.ndarray]:
        values = random.normal(0, random.uniform(0.01, 0.2), (rows, columns)).astype(np.float32)
        values[0, :16], values[1, :16] = (
            0,
            1e-7 * np.sign(values[1, :16]),
        )  # an empty block, one that underflows
        return "BF16", nvfp4.f32_to_bf16(values)

    def vector(size: int, dtype: str = "BF16") -> tuple[str, np.ndarray]:
        values = random.normal(1, 0.1, size).astype(np.float32)
        return dtype, values if dtype == "F32" else nvfp4.f32_to_bf16(values)

    tensors = {"model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN), "model.norm.weight": vector(HIDDEN)}
    if architecture != "llama":  # its embeddings are tied
        tensors["lm_head.weight"] = matrix(VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{name}.weight"] = vector(HIDDEN)
        for name in "qkvo":
            tensors[f"{at}.self_attn.{name}_proj.weight"] = matrix(HIDDEN, HIDDEN)
        if architecture == "llama":
            for name in ("gate_proj", "up_proj"):
                tensors[f"{at}.mlp.{name}.weight"] = matrix(WIDTH, HIDDEN)
            tensors[f"{at}.mlp.down_proj.weight"] = matrix(HIDDEN, WIDTH)
            continue
        moe, (gate, down, up) = EXPERT_OF[architecture]
        tensors[f"{at}.{moe}.gate.weight"] = matrix(experts, HIDDEN)
        if architecture == "minimax_m2":
            tensors[f"{at}.{moe}.e_score_correction_bias"] = vector(experts, "F32")
        for expert in range(experts):
            for name in (gate, up):
                tensors[f"{at}.{moe}.experts.{expert}.{name}.weight"] = matrix(WIDTH, HIDDEN)
            tensors[f"{at}.{moe}.experts.{expert}.{down}.weight"] = matrix(HIDDEN, WIDTH)
    return tensors


def config_of(architecture: str, experts: int = EXPERTS) -> dict[str, Any]:
    said = {
        "model_type": architecture, "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
        "vocab_size": VOCABULARY, "tie_word_embeddings": architecture == "llama",
    }  # fmt: skip
    count = {"minimax_m2": "num_local_experts", "mixtral": "num_local_experts", "qwen3_moe": "num_experts"}
    return said | ({count[architecture]: experts} if architecture in count else {})


def make_source(
    folder: Path, architecture: str = "minimax_m2", fp8: bool = True, seed: int = 1, experts: int = EXPERTS
) -> Path:
    """A source in BF16, or with its linears in FP8 under block scales."""
    folder.mkdir(parents=True)
    config, tensors = config_of(architecture, experts), weights(architecture, seed, experts)
    if fp8:
        config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [FP8_BLOCK, FP8_BLOCK]}
        for name in [name for name in tensors if "_proj." in name or "experts" in name]:
            tensors |= to_fp8(name, nvfp4.bf16_to_f32(tensors[name][1]))
    write_json(folder / "config.json", config)
    save(folder, tensors)
    return folder


def to_fp8(name: str, values: np.ndarray) -> Tensors:
    codes = nvfp4.e4m3_to_f32(np.arange(0x7F, dtype=np.uint8))
    rows, columns = (-(-size // FP8_BLOCK) for size in values.shape)
    scale = np.empty((rows, columns), np.float32)
    weight = np.empty(values.shape, np.uint8)
    for row in range(rows):
        for column in range(columns):
            at = np.s_[row * FP8_BLOCK : (row + 1) * FP8_BLOCK, column * FP8_BLOCK : (column + 1) * FP8_BLOCK]
            scale[row, column] = np.abs(values[at]).max() / 448
            size = np.abs(values[at]) / scale[row, column]
            nearest = np.searchsorted((codes[1:] + codes[:-1]) / 2, size).astype(np.uint8)
            weight[at] = nearest | (values[at] < 0).astype(np.uint8) << 7
    return {name: ("F8_E4M3", weight), f"{name}_scale_inv": ("F32", scale)}


def make_checkpoint(
    folder: Path, source: Path, change: Callable[[Tensors], Any] | None = None, shards: int = 2
) -> Path:
    """What ModelOpt exports of that source, altered by `change` before it is written and sealed."""
    folder.mkdir(parents=True)
    read = Source(source)
    architecture = read.config["model_type"]
    tensors: Tensors = {}
    modules = [name.removesuffix(".weight") for name in read.weights() if name.endswith(".weight")]
    packed = [
        module for module in modules if ".experts." in module or (".mlp." in module and "_proj" in module)
    ]
    for name in read.weights():
        if name.removesuffix(".weight") not in packed:
            tensors[name] = (read.dtype(name), np.array(read.bits(name)))
    for module in packed:
        stem, _, leaf = module.rpartition(".")
        group = [module] + ([f"{stem}.{PAIRS[leaf]}"] if leaf in PAIRS else [])
        scale_2 = nvfp4.weight_scale_2(max(nvfp4.amax(read.bits(f"{one}.weight")) for one in group))
        tensors |= pack(module, read.bits(f"{module}.weight"), scale_2)
        tensors[f"{module}.input_scale"] = ("F32", np.float32(0.01))
    for layer in range(LAYERS):
        for name in "kv":
            tensors[f"model.layers.{layer}.self_attn.{name}_proj.{name}_scale"] = ("F32", np.float32(0.02))
    if change is not None:
        change(tensors)
    save(folder, tensors, shards)
    exclude = [f"model.layers.{layer}.self_attn*" for layer in range(LAYERS)] + ["lm_head"]
    exclude += [module for module in modules if module.endswith(".gate")]
    producer = {"name": "modelopt", "version": "0.43.0"}
    part = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    quantization = {
        "config_groups": {"group_0": {"input_activations": part, "weights": part, "targets": ["Linear"]}},
        "ignore": exclude, "quant_algo": "NVFP4", "producer": producer, "quant_method": "modelopt",
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
    }  # fmt: skip
    write_json(folder / "config.json", config_of(architecture) | {"quantization_config": quantization})
    said = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": exclude}
    write_json(folder / "hf_quant_config.json", {"producer": producer, "quantization": said})
    write_json(folder / "tokenizer.json", {"vocabulary": [f"w{n}" for n in range(VOCABULARY)]})
    (folder / "modeling.py").write_text("WEIGHTS = True\n")
    reseal(folder, source)
    return folder


def pack(module: str, bits: np.ndarray, scale_2: np.float32) -> Tensors:
    packed, scale = nvfp4.quantize(bits, scale_2)
    return {
        f"{module}.weight": ("U8", packed),
        f"{module}.weight_scale": ("F8_E4M3", scale),
        f"{module}.weight_scale_2": ("F32", np.float32(scale_2)),
    }


def save(folder: Path, tensors: Tensors, shards: int = 1) -> None:
    """Into so many files, with an index."""
    names, index = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        held = {name: np.ascontiguousarray(tensors[name][1]) for name in part}
        content = {
            name: TensorSpec(
                dtype=NAMES[tensors[name][0]],
                shape=np.shape(tensors[name][1]),
                data_ptr=bits.ctypes.data,
                data_len=bits.nbytes,
            )
            for name, bits in held.items()
        }
        serialize_file(content, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def load(folder: Path) -> Tensors:
    return {name: (tensor.dtype, np.array(tensor.bits())) for name, tensor in read_folder(folder).items()}


def reseal(folder: Path, source: Path | None = None, config: dict[str, Any] | None = None) -> None:
    """Seal what stands there now."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    files = file_table(source, source.iterdir()) if source else {}
    body = {
        "schema": manifest.SCHEMA, "stage": "quantize", "key": "0" * 64, "config": config or {}, "seeds": {},
        "inputs": {"source": {"files": files}} if source else {}, "toolchain": {}, "platform": {},
        "statistics": {},
        "outputs": dict(zip(("files", "tensors"), output_tables(folder), strict=True)),
    }  # fmt: skip
    (folder / manifest.NAME).write_text(manifest.seal(body), encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


class Verified:
    """One run of `verify`: exit status, what was printed, the report."""

    def __init__(
        self,
        checkpoint: Path,
        source: Path | None = None,
        levels: tuple[str, ...] | None = None,
        width: int = 80,
        scales: str = "derived",
    ) -> None:
        self.path = checkpoint.with_name(f"{checkpoint.name}.verification.json")
        self.path.unlink(missing_ok=True)  # one that proves more would be kept
        screen = io.StringIO()
        config = VerifyConfig.model_validate(
            {
                "checkpoint": checkpoint, "source": source, "levels": levels, "scales": scales,
                "report": self.path if checkpoint.parent.name == "snapshots" else None,
            }
        )  # fmt: skip
        self.status = run(config, Console(file=screen, width=width))
        self.screen = screen.getvalue()
        self.report = json.loads(self.path.read_text())

    def level(self, name: str) -> dict[str, Any]:
        return self.report["levels"][name]

    def differences(self, name: str) -> list[dict[str, Any]]:
        return self.level(name)["differences"]["listed"]

    def first(self, name: str) -> dict[str, Any]:
        return self.differences(name)[0]
