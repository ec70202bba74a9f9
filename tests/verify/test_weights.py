"""Every packed byte follows from the source, or the first that does not is named, with a tested cause."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import (
    ARCHITECTURES,
    W1,
    W2,
    W3,
    Tensors,
    Verified,
    load,
    make_checkpoint,
    make_source,
    pack,
    reseal,
    save,
)

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.verify import diagnose

ONLY = ("weights",)
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
GATE = "model.layers.0.block_sparse_moe.gate.weight"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fp8", [True, False])
def test_it_holds_for_each_architecture(tmp_path: Path, architecture: str, fp8: bool) -> None:
    source = make_source(tmp_path / "source", architecture, fp8)
    made = make_checkpoint(tmp_path / "made", source, shards=1)
    verified = Verified(made, source)
    assert verified.status == 0, verified.screen
    assert verified.screen.splitlines()[-1].startswith("verified")
    scales = sum(name.endswith(("input_scale", "k_scale", "v_scale")) for name in load(made))
    assert verified.level("weights")["counts"]["tensors"] == len(load(made)) - scales


def altered(checkpoint: Path, source: Path, change: Callable[[Tensors, Source], Any]) -> Verified:
    """Verify weights after a change; the seal is made anew and does not help."""
    tensors = load(checkpoint)
    change(tensors, Source(source))
    save(checkpoint, tensors, 2)
    reseal(checkpoint, source)
    verified = Verified(checkpoint, source, ("integrity", "weights"))
    assert verified.level("integrity")["result"] == "holds"
    assert verified.status == 1
    return verified


@pytest.mark.parametrize(
    ("name", "at"),
    [
        (f"{W2}.weight", 77), (f"{W2}.weight", 0), (f"{W2}.weight_scale", 5), (f"{W2}.weight_scale_2", 1),
        (Q_PROJ, 8191), (GATE, 3), ("model.layers.0.block_sparse_moe.e_score_correction_bias", 4),
        ("model.norm.weight", 9), ("model.embed_tokens.weight", 5000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bit", [0, 4, 7])
def test_a_flipped_bit(checkpoint: Path, source: Path, name: str, at: int, bit: int) -> None:
    before: list[int] = []

    def flip(tensors: Tensors, _: Source) -> None:
        dtype, bits = tensors[name]
        raw = bytearray(bits.tobytes())
        before.append(raw[at])
        raw[at] ^= 1 << bit
        tensors[name] = (dtype, np.frombuffer(bytes(raw), bits.dtype).reshape(bits.shape))

    verified = altered(checkpoint, source, flip)
    (found,) = verified.differences("weights")
    assert (found["tensor"], found["offset"], found["differing_bytes"]) == (name, at, 1)
    assert found["expected"] == f"0x{before[0]:02x}"
    assert found["found"] == f"0x{before[0] ^ (1 << bit):02x}"
    assert found["cause"] == diagnose.FLIPPED


def repacked(module: str, bits: np.ndarray, scale_2: Any) -> Callable[[Tensors, Source], Any]:
    return lambda tensors, source: tensors.update(pack(module, bits, scale_2))


def as_fp32(scales_only: bool) -> Callable[[Tensors, Source], Any]:
    """As ModelOpt packs weights that stay in FP8: A from BF16, the rest from the FP32 dequantization."""

    def change(tensors: Tensors, source: Source) -> None:
        for name in [name for name in tensors if name.endswith("w2.weight")]:
            scale_2 = tensors[f"{name}_scale_2"][1]
            full, bf16 = full_product(source, name), nvfp4.bf16_to_f32(source.bits(name))
            with np.errstate(all="ignore"):
                packed, scale = (
                    diagnose._quantize(bf16, scale_2, scales_of=full)
                    if scales_only
                    else diagnose._quantize(full, scale_2)
                )
            tensors[name], tensors[f"{name}_scale"] = ("U8", packed), ("F8_E4M3", scale)

    return change


def not_shared(tensors: Tensors, source: Source) -> None:
    for module in (W1, W3):
        bits = source.bits(f"{module}.weight")
        tensors |= pack(module, bits, nvfp4.weight_scale_2(nvfp4.amax(bits)))


def another_amax(tensors: Tensors, source: Source) -> None:
    tensors |= pack(W2, source.bits(f"{W2}.weight"), np.float32(0.001))


def unsaturated(tensors: Tensors, source: Source) -> None:
    values = nvfp4.bf16_to_f32(source.bits(f"{W2}.weight"))
    scale_2 = np.float32(tensors[f"{W2}.weight_scale_2"][1] / 2)
    with np.errstate(all="ignore"):
        packed, scale = diagnose._quantize(values, scale_2, saturate=False)
    assert (scale == 0x7F).any()
    tensors[f"{W2}.weight"], tensors[f"{W2}.weight_scale"] = ("U8", packed), ("F8_E4M3", scale)
    tensors[f"{W2}.weight_scale_2"] = ("F32", scale_2)


def swapped(tensors: Tensors, _: Source) -> None:
    other = W2.replace("experts.2", "experts.0")
    for leaf in ("weight", "weight_scale", "weight_scale_2"):
        one, two = f"{W2}.{leaf}", f"{other}.{leaf}"
        tensors[one], tensors[two] = tensors[two], tensors[one]


def gate_is_up(tensors: Tensors, _: Source) -> None:
    for leaf in ("weight", "weight_scale"):
        one, two = f"{W1}.{leaf}", f"{W3}.{leaf}"
        tensors[one], tensors[two] = tensors[two], tensors[one]


def codes(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors, Source], Any]:
    return lambda tensors, _: tensors.update({f"{W2}.weight": ("U8", change(tensors[f"{W2}.weight"][1]))})


def plain_fp32(tensors: Tensors, source: Source) -> None:
    tensors[Q_PROJ] = ("F32", full_product(source))


def truncated(tensors: Tensors, source: Source) -> None:
    tensors[Q_PROJ] = ("BF16", (full_product(source).view(np.uint32) >> 16).astype(np.uint16))


def full_product(source: Source, name: str = Q_PROJ) -> np.ndarray:
    weight, scale_inv = (source.tensors[f"{name}{end}"].bits() for end in ("", "_scale_inv"))
    factor = np.repeat(np.repeat(scale_inv, 32, 0), 32, 1)[: weight.shape[0], : weight.shape[1]]
    return nvfp4.e4m3_to_f32(weight) * factor


def hole(packed: np.ndarray) -> np.ndarray:
    flat = packed.reshape(-1).copy()
    flat[512:1024] = 0
    return flat.reshape(packed.shape)


def some_bytes(count: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(packed: np.ndarray) -> np.ndarray:
        flat = packed.reshape(-1).copy()
        flat[9 : 9 + count] ^= 0x33
        return flat.reshape(packed.shape)

    return change


CAUSES: dict[str, tuple[Callable[[Tensors, Source], Any], str, str]] = {
    "gate and up not shared": (not_shared, W1, diagnose.NOT_SHARED),
    "FP32 dequantization": (as_fp32(False), "model.layers.", diagnose.FROM_FP32),
    "FP32 block scales": (as_fp32(True), "model.layers.", diagnose.FROM_FP32),  # few codes to tell them by
    "another amax": (another_amax, W2, "weight_scale_2 is of amax 2.688, not "),
    "no saturation": (unsaturated, W2, diagnose.NOT_SATURATING),
    "swapped experts": (swapped, W2.replace("experts.2", "experts.0"), f"it holds the weights of {W2}"),
    "swapped gate and up": (gate_is_up, W1, f"it holds the weights of {W3}"),
    "nibbles": (codes(diagnose._swapped), W2, diagnose.NIBBLES),
    "no negative zero": (codes(diagnose._positive_zeros), W2, diagnose.NO_NEGATIVE_ZERO),
    "attention in FP32": (plain_fp32, Q_PROJ, diagnose.PLAIN_FP32),
    "truncated": (truncated, Q_PROJ, diagnose.TRUNCATED),
    "one byte": (codes(some_bytes(1)), W2, diagnose.ONE_BYTE),
    "a hole": (codes(hole), W2, diagnose.HOLE),
    "unknown": (codes(some_bytes(9)), W2, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_recognised(checkpoint: Path, source: Path, name: str) -> None:
    change, tensor, cause = CAUSES[name]
    verified = altered(checkpoint, source, change)
    found = verified.differences("weights")
    assert {
        d["tensor"].startswith(tensor) or name.startswith("swapped") or "shared" in name for d in found
    } == {True}
    if cause:
        causes = [d["cause"] or "" for d in found]
        assert any(said.startswith(cause) for said in causes), causes
    else:
        assert found[0]["cause"] is None
        assert "cause unknown" in verified.screen


def test_the_slow_formulas_are_the_fast_ones() -> None:
    random = np.random.default_rng(0)
    bits = nvfp4.f32_to_bf16(random.standard_t(2, (256, 1024)).astype(np.float32))
    for scale_2 in (nvfp4.weight_scale_2(nvfp4.amax(bits)), np.float32(1e-3), np.float32(1)):
        with np.errstate(all="ignore"):
            slow = diagnose._quantize(nvfp4.bf16_to_f32(bits), scale_2)
        for one, other in zip(slow, nvfp4.quantize(bits, scale_2), strict=True):
            assert np.array_equal(one, other)


def test_another_revision_of_the_source(tmp_path: Path, checkpoint: Path, source: Path) -> None:
    other = make_source(tmp_path / "other", seed=2)
    found = Verified(checkpoint, other)
    assert found.status == 1
    assert (found.level("integrity")["result"], found.level("structure")["result"]) == ("holds", "holds")
    assert "is not the file that the manifest names: another revision" in found.first("weights")["cause"]
    (checkpoint / "manifest.json").unlink()
    assert Verified(checkpoint, other, ONLY).first("weights")["cause"] == diagnose.OTHER_SOURCE


def test_values_in_another_dtype_are_compared_as_values(checkpoint: Path, source: Path) -> None:
    tensors = load(checkpoint)
    tensors[Q_PROJ] = ("F32", nvfp4.bf16_to_f32(tensors[Q_PROJ][1]))
    save(checkpoint, tensors, 2)
    verified = Verified(checkpoint, source, ONLY)
    assert verified.status == 0
    assert "1 tensors are of another dtype than expected, equal in value" in " ".join(verified.screen.split())


def test_missing_and_extra(checkpoint: Path, source: Path) -> None:
    tensors = load(checkpoint)
    for name in [name for name in tensors if name.startswith(f"{W2}.")]:
        tensors[name.replace("experts.2", "experts.9")] = tensors.pop(name)
    save(checkpoint, tensors, 2)
    found = {(d["kind"], d["tensor"]) for d in Verified(checkpoint, source, ONLY).differences("weights")}
    assert {("missing", f"{W2}.weight"), ("extra", f"{W2}.weight".replace("experts.2", "experts.9"))} <= found


def test_a_difference_stands_where_its_cause_cannot_be_looked_for(
    checkpoint: Path, source: Path, monkeypatch: Any
) -> None:
    def refuse(*_: Any) -> str:
        raise ValueError("not this one")

    monkeypatch.setattr(diagnose, "linear", refuse)
    (found,) = altered(checkpoint, source, codes(some_bytes(1))).differences("weights")
    assert (found["offset"], found["cause"]) == (9, None)


def test_without_any_configuration_the_tensors_speak(checkpoint: Path, source: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "hf_quant_config.json").unlink()
    assert Verified(checkpoint, source, ONLY).status == 0


@pytest.mark.parametrize("leaf", ["weight_scale", "weight_scale_2"])
def test_a_scale_is_missing(checkpoint: Path, source: Path, leaf: str) -> None:
    tensors = load(checkpoint)
    del tensors[f"{W2}.{leaf}"]
    save(checkpoint, tensors, 2)
    (found,) = Verified(checkpoint, source, ONLY).differences("weights")
    assert (found["kind"], found["tensor"]) == ("missing", f"{W2}.{leaf}")


def harmed_source(tmp_path: Path, change: Callable[[Tensors], Any]) -> Path:
    folder = make_source(tmp_path / "harmed")
    tensors = load(folder)
    change(tensors)
    save(folder, tensors)
    return folder


UNREADABLE: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "whole numbers": (
        lambda t: t.update({f"{W2}.weight": ("U8", np.zeros((64, 48), np.uint8))}), "in U8; NVFP4",
    ),
    "no scale": (lambda t: t.pop(f"{W2}.weight_scale_inv"), "without weight_scale_inv"),
    "NaN": (lambda t: t[f"{W2}.weight"][1].__setitem__((0, 0), 0x7F), "every weight must be finite"),
    "scale of another shape": (
        lambda t: t.update({f"{W2}.weight_scale_inv": ("F32", np.ones((1, 1), np.float32))}), "scale_inv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_source_that_the_formulas_do_not_cover(checkpoint: Path, tmp_path: Path, name: str) -> None:
    change, message = UNREADABLE[name]
    found = Verified(checkpoint, harmed_source(tmp_path, change), ONLY)
    assert found.status == 2, found.screen
    (why,) = found.level("weights")["unchecked"]["listed"]
    assert why.startswith(W2) and message in why
    assert str(tmp_path) not in str(found.report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "source: "),
        (lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\xff" * 40), "header"),
        (
            lambda folder: next(folder.glob("*.safetensors")).unlink(),
            "lists files that are missing (1 of 1)",
        ),
    ],
)
def test_an_unreadable_source(checkpoint: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = make_source(tmp_path / "harmed")
    change(folder)
    found = Verified(checkpoint, folder)
    assert found.status == 2
    assert found.level("integrity")["result"] == "holds"
    assert message in found.level("weights")["unchecked"]["listed"][0]
    assert str(tmp_path) not in str(found.report)
