"""Tamperings with whole tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from verify.making import Tensors, save
from verify.tampered import EXPERTS, INDEX, SHARDS, Done, Random, tensors_of
from verify.tampering_bytes import calibrated, flip_bit


def remove_tensor(folder: Path, chance: Random) -> Done:
    name = chance.choice(sorted(tensors_of(folder)))
    _with(folder, lambda t: t.pop(name))
    return Done(name)


def remove_all_alike(folder: Path, chance: Random) -> Done:
    leaf = chance.choice(["weight", "weight_scale", "weight_scale_2", "input_scale", "k_scale", "v_scale"])
    part = chance.choice(["layers.0.", "layers.1.", "experts.1.", "self_attn", "w1", "norm"])
    chosen = [name for name in tensors_of(folder) if name.endswith(f".{leaf}") and part in name]
    if not chosen:
        return remove_tensor(folder, chance)
    _with(folder, lambda t: [t.pop(name) for name in chosen])
    return Done(f"{len(chosen)} of {part}…{leaf}")


def rename_tensor(folder: Path, chance: Random) -> Done:
    name = chance.choice(sorted(tensors_of(folder)))
    new = chance.choice(
        [
            f"{name}_x",
            f"x.{name}",
            name.replace("layers.", "layers.9"),
            name.replace(".weight", ".qweight"),
            name[:-1],
        ]
    )
    _with(folder, lambda t: t.update({new if new != name else f"{name}2": t.pop(name)}))
    return Done(f"{name} to {new}")


def add_tensor(folder: Path, chance: Random) -> Done:
    module = chance.choice(
        ["lm_head", "model.layers.0.self_attn.q_proj", "model.layers.1.mlp", "mtp.0", "model"]
    )
    leaf = chance.choice(
        ["weight_packed", "qweight", "g_idx", "weight_scale", "blocks", "bias", "k_bias", "v_scale",
         "extra.weight", "weight_scale_inv", "k_scale", "pre_quant_scale", "input_scale", "zero_point"]
    )  # fmt: skip
    dtype, bits = chance.choice(
        [("U8", np.uint8), ("F32", np.float32), ("BF16", np.uint16), ("F8_E4M3", np.uint8)]
    )
    name = f"{module}.{leaf}"
    shape = chance.choice([(), (16,), (4, 16), (2, 4, 16)])
    if name in tensors_of(folder):
        name += "_more"
    _with(folder, lambda t: t.update({name: (dtype, np.ones(shape, bits))}))
    return Done(f"{name} {dtype} {list(shape)}")


def exchange_tensors(folder: Path, chance: Random) -> Done:
    tensors = tensors_of(folder)
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, (dtype, bits) in tensors.items():
        if not calibrated(name):
            groups.setdefault((dtype, np.shape(bits)), []).append(name)
    one, other = chance.sample(sorted(chance.choice([g for g in groups.values() if len(g) > 1])), 2)
    if np.array_equal(tensors[one][1], tensors[other][1]):
        return flip_bit(folder, chance)
    _with(folder, lambda t: t.update({one: tensors[other], other: tensors[one]}))
    return Done(f"{one} with {other}")


def exchange_experts(folder: Path, chance: Random) -> Done:
    one, other = chance.sample(range(EXPERTS), 2)
    layer = chance.randrange(2)
    stem = f"model.layers.{layer}.block_sparse_moe.experts."
    tensors = tensors_of(folder)
    swapped = {
        f"{stem}{a}.{name.removeprefix(f'{stem}{b}.')}": tensors[name]
        for a, b in ((one, other), (other, one))
        for name in tensors
        if name.startswith(f"{stem}{b}.")
    }
    _with(folder, lambda t: t.update(swapped))
    return Done(f"experts {one} and {other} of layer {layer}")


def set_scale(folder: Path, chance: Random) -> Done:
    leaf = chance.choice(["input_scale", "k_scale", "v_scale", "weight_scale_2"])
    name = chance.choice(sorted(name for name in tensors_of(folder) if name.endswith(f".{leaf}")))
    value = chance.choice([0.0, -1.0, np.nan, np.inf, -np.inf, 1e-30, 3e38, 1e-12, 1e12, "double", "half"])
    old = float(tensors_of(folder)[name][1])
    number = {"double": 2 * old, "half": old / 2}.get(value, value) if isinstance(value, str) else value
    _with(folder, lambda t: t.update({name: ("F32", np.float32(number))}))
    within = isinstance(value, str) and leaf in ("k_scale", "v_scale", "input_scale")
    return Done(f"{name} = {number}", "calibrated" if within else None)


def set_every_scale(folder: Path, chance: Random) -> Done:
    leaf = chance.choice(["input_scale", "k_scale", "v_scale", "weight_scale_2"])
    number = chance.choice([3e38, 1e-30, 0.0, np.nan])
    names = [name for name in tensors_of(folder) if name.endswith(f".{leaf}")]
    _with(folder, lambda t: t.update({name: ("F32", np.float32(number)) for name in names}))
    return Done(f"every {leaf} = {number}")


def add_bias(folder: Path, chance: Random) -> Done:
    size = chance.choice([100.0, 1e4, np.inf, np.nan])
    name = f"model.layers.{chance.randrange(2)}.self_attn.{chance.choice(['k', 'v'])}_proj"
    leaf = f"{name[-6]}_bias"
    _with(folder, lambda t: t.update({f"{name}.{leaf}": ("F32", np.full(64, size, np.float32))}))
    return Done(f"{name}.{leaf} of {size}")


def widen(folder: Path, chance: Random) -> Done:
    name = chance.choice(sorted(n for n, (dtype, _) in tensors_of(folder).items() if dtype == "BF16"))

    def change(tensors: Tensors) -> None:
        values = (tensors[name][1].astype(np.uint32) << 16).view(np.float32)
        tensors[name] = ("F32", values)

    _with(folder, change)
    return Done(name, "equal in value")


def narrow(folder: Path, chance: Random) -> Done:
    name = chance.choice(sorted(n for n, (dtype, _) in tensors_of(folder).items() if dtype == "BF16"))

    def change(tensors: Tensors) -> None:
        values = (tensors[name][1].astype(np.uint32) << 16).view(np.float32)
        tensors[name] = ("F16", (values * np.float32(1.25)).astype(np.float16))

    _with(folder, change)
    return Done(f"{name} as F16, a quarter larger")


def _with(folder: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = tensors_of(folder)
    change(tensors)
    for path in [*folder.glob("*.safetensors"), folder / INDEX]:
        path.unlink()
    save(folder, tensors, SHARDS)
