"""Golden tensors of other makers, by their own functions. Run once, each in an environment of its own:

    python write_golden.py modelopt        # nvidia-modelopt==0.47.0 torch==2.11.0
    python write_golden.py llm_compressor  # llmcompressor==0.14.0.1 (compressed-tensors 0.19.0) torch==2.11.0
    python write_golden.py auto_round      # auto-round==0.16.1 torch==2.11.0
    python write_golden.py compressed_values  # compressed-tensors==0.19.0 torch==2.11.0
    python write_golden.py four_over_six CHECKPOINT SOURCE  # rows of a checkpoint by nvidia-modelopt 0.47.0

The weights are drawn here by seed: blocks of zeros, blocks that underflow, ties between two codes, and blocks
with one large value, besides ordinary ones.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent / "golden"
ROWS, COLUMNS = 24, 128


def weight(seed: int) -> torch.Tensor:
    """BF16 [ROWS, COLUMNS]."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, COLUMNS, generator=generator) * 0.05
    values[0, :16] = 0
    values[1, :16] = 1e-7 * torch.sign(values[1, :16])
    values[2, 16:32] *= 3e-5
    values[3, 32:48] *= 2e-4
    values[4, 5] = 3.0
    values[5, :16] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0] * 2) * 0.0625
    values[6] = -values[6].abs() * 0.01
    return values.to(torch.bfloat16)


def modelopt() -> dict[str, torch.Tensor]:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    found = {}
    for block in (16, 32):
        for name, divisor in (("max", 2688.0), ("w4a8", 448.0)):
            w = weight(block)
            shared = w.abs().max().float() / divisor
            scales, _ = NVFP4QTensor.get_weights_scaling_factor(w, block, shared)
            codes = NVFP4QTensor.quantize(w.clone(), block, scales, shared)[0]._quantized_data
            found |= named(f"{name}_{block}", w, codes, scales, shared)
    w = weight(5)
    scale = w.abs().max().float() / 448
    found |= {"fp8.w": w, "fp8.codes": (w / scale).to(torch.float8_e4m3fn), "fp8.scale": scale}
    rows = w.abs().amax(dim=1).float() / 448
    found |= {
        "fp8_rows.w": w,
        "fp8_rows.codes": (w / rows[:, None]).to(torch.float8_e4m3fn),
        "fp8_rows.scale": rows,
    }
    return found


def llm_compressor() -> dict[str, torch.Tensor]:
    from compressed_tensors.quantization import QuantizationArgs, preset_name_to_scheme
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    found = {}
    args = preset_name_to_scheme("NVFP4", ["Linear"]).weights
    w = weight(16)
    shared = generate_gparam(w.min(), w.max())
    blocks = w.reshape(ROWS, -1, 16)
    scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, shared)
    values = quantize(w, scales, None, args, global_scale=shared)
    found |= named("nvfp4", w, packed(values), scales.to(torch.float8_e4m3fn), shared)
    for strategy in ("tensor", "channel"):
        eight = QuantizationArgs(num_bits=8, type="float", strategy=strategy, symmetric=True)
        w = weight(5)
        low, high = (
            (w.amin(1, True), w.amax(1, True)) if strategy == "channel" else (w.min()[None], w.max()[None])
        )
        scale, _ = calculate_qparams(low, high, eight)
        codes = quantize(w, scale, None, eight, dtype=torch.float8_e4m3fn)
        found |= {f"fp8_{strategy}.w": w, f"fp8_{strategy}.codes": codes, f"fp8_{strategy}.scale": scale}
    return found


def compressed_values() -> dict[str, torch.Tensor]:
    """What compressed-tensors makes of its own packed weight, and of the input of a linear in NVFP4."""
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationStatus, preset_name_to_scheme
    from compressed_tensors.quantization.lifecycle.forward import forward_quantize

    scheme = preset_name_to_scheme("NVFP4", ["Linear"])
    golden = load_file(HERE / "llm_compressor.safetensors")
    stored = {"weight_packed": golden["nvfp4.codes"], "weight_scale": golden["nvfp4.scales"],
              "weight_global_scale": golden["nvfp4.shared"].reshape(1)}  # fmt: skip
    found = {"weight.values": NVFP4PackedCompressor.decompress(stored, scheme)["weight"].to(torch.bfloat16)}
    linear = torch.nn.Linear(COLUMNS, ROWS)
    linear.quantization_status = QuantizationStatus.FROZEN
    for name, divisor in (("narrow", 900.0), ("wide", 4256.0), ("saturating", 30000.0)):
        x = 20 * weight(7)
        linear.input_global_scale = torch.nn.Parameter(torch.tensor([divisor]), requires_grad=False)
        rounded = forward_quantize(linear, x, "input", scheme.input_activations)
        found |= {f"{name}.x": x, f"{name}.divisor": torch.tensor(divisor), f"{name}.rounded": rounded}
    return found


def packed(values: torch.Tensor) -> torch.Tensor:
    from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8

    return pack_fp4_to_uint8(values)


def auto_round() -> dict[str, torch.Tensor]:
    from auto_round.data_type.nvfp import calculate_gparam, nv_fp4
    from auto_round.export.export_to_autoround.qlinear_fp import QuantLinear

    w = weight(16)
    shared = calculate_gparam(w)
    rounded, scales, _ = nv_fp4(w, global_scale=shared)  # a layer holds what was rounded when it is packed
    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.bfloat16)
    linear.weight.data = rounded.clone()
    made = QuantLinear(4, 16, COLUMNS, ROWS, False, data_type="nv_fp4", act_bits=4)
    made.pack(linear, scales.reshape(ROWS, -1), global_scale=shared, device="cpu")
    return named("nvfp4", w, made.weight_packed, made.weight_scale, made.weight_global_scale)


def four_over_six(checkpoint: str, source: str) -> dict[str, torch.Tensor]:
    ours, own = (load_file(Path(folder) / "model.safetensors") for folder in (checkpoint, source))
    module = "model.layers.1.mlp.down_proj"
    tensors = {key: ours[f"{module}.{key}"] for key in ("weight", "weight_scale", "weight_scale_2")}
    w = own[f"{module}.weight"]
    rows = slice(0, ROWS)
    found = named(
        "four_over_six",
        w[rows],
        tensors["weight"][rows],
        tensors["weight_scale"][rows],
        tensors["weight_scale_2"],
    )
    return found | {"four_over_six.amax": w.abs().max().float()}


def named(
    kind: str, w: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, shared: torch.Tensor
) -> dict[str, Any]:
    return {
        f"{kind}.w": w, f"{kind}.codes": codes.to(torch.uint8),
        f"{kind}.scales": scales.to(torch.float8_e4m3fn),
        f"{kind}.shared": shared.float().reshape(()), f"{kind}.amax": w.abs().max().float(),
    }  # fmt: skip


PACKAGES = {
    "modelopt": "nvidia-modelopt", "llm_compressor": "llmcompressor", "auto_round": "auto-round",
    "compressed_values": "compressed-tensors",
    "four_over_six": "safetensors",  # whose tensors were read: nvidia-modelopt 0.47.0 wrote them
}  # fmt: skip

if __name__ == "__main__":
    maker = sys.argv[1]
    made = {name: tensor.contiguous().clone() for name, tensor in globals()[maker](*sys.argv[2:]).items()}
    said = {"made_by": f"{PACKAGES[maker]} {version(PACKAGES[maker])}, torch {version('torch')}, on a CPU"}
    save_file(made, HERE / f"{maker}.safetensors", said)
    print(said, {name: list(tensor.shape) for name, tensor in made.items()})
