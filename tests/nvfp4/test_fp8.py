import numpy as np
import pytest

from pipeline import nvfp4

torch = pytest.importorskip("torch")

CASES = [  # shape, block: whole blocks, ragged edges, blocks that cut through sixteens
    ((256, 384), (128, 128)),
    ((200, 144), (128, 128)),
    ((5, 16), (128, 128)),
    ((130, 272), (64, 32)),
    ((37, 160), (5, 7)),
    ((9, 48), (1, 1)),
]


def source(shape, block, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 256, shape).astype(np.uint8)
    weight[(weight & 0x7F) == 0x7F] = 0x80
    grid = tuple(-(-size // side) for size, side in zip(shape, block, strict=True))
    return weight, (2.0 ** rng.uniform(-20, 1, grid)).astype(np.float32)


def by_torch(weight, scale_inv, block):
    scale = torch.from_numpy(scale_inv).repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    values = torch.from_numpy(weight).view(torch.float8_e4m3fn).float()
    return (
        (values * scale[: weight.shape[0], : weight.shape[1]]).to(torch.bfloat16).view(torch.uint16).numpy()
    )


@pytest.mark.parametrize(("shape", "block"), CASES, ids=str)
def test_the_rule_and_what_follows_it(shape, block, modelopt):
    weight, scale_inv = source(shape, block)
    bits = nvfp4.fp8_block_to_bf16(weight, scale_inv, block=block)
    np.testing.assert_array_equal(bits, by_torch(weight, scale_inv, block))
    amax = nvfp4.amax_fp8(weight, scale_inv, block=block)
    assert amax == nvfp4.amax(bits)
    scale_2 = nvfp4.weight_scale_2(amax)
    packed, scale = nvfp4.quantize_fp8(weight, scale_inv, scale_2, block=block)
    wanted = modelopt(bits, scale_2)
    np.testing.assert_array_equal(scale, wanted[1])
    np.testing.assert_array_equal(packed, wanted[0])


def test_every_code_under_many_scales():
    """From products that are all BF16 denormals to products that overflow; signs and zero too."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, 3000, dtype=np.uint64).astype(np.uint32)
    random = bits.view(np.float32)
    chosen = np.float32([0.0, -0.0, 1.0, -1.0, 1e-45, 2.0**-149, 2.0**-126, 3e38, 0.1])
    scale_inv = np.concatenate([random[np.isfinite(random)], chosen])[:, None]
    weight = np.broadcast_to(np.arange(256, dtype=np.uint8), (len(scale_inv), 256))
    ours = nvfp4.fp8_block_to_bf16(weight, scale_inv, block=(1, 256))
    theirs = by_torch(weight.copy(), scale_inv, (1, 256))
    nan = np.isnan(nvfp4.bf16_to_f32(theirs))
    assert (nan == ((weight & 0x7F) == 0x7F)).all()
    np.testing.assert_array_equal(ours[~nan], theirs[~nan])
    assert (ours[nan] == 0x7FC0).all()


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(threads):
    weight, scale_inv = source((515, 1040), (128, 128))
    arguments = (weight, scale_inv, np.float32(0.01))
    for ours, alone in zip(
        nvfp4.quantize_fp8(*arguments, threads=threads), nvfp4.quantize_fp8(*arguments), strict=True
    ):
        np.testing.assert_array_equal(ours, alone)
    assert nvfp4.amax_fp8(weight, scale_inv, threads=threads) == nvfp4.amax_fp8(weight, scale_inv)
    np.testing.assert_array_equal(
        nvfp4.fp8_block_to_bf16(weight, scale_inv, threads=threads),
        nvfp4.fp8_block_to_bf16(weight, scale_inv),
    )


def test_amax_with_negative_and_zero_scales():
    weight, scale_inv = source((64, 64), (16, 16))
    scale_inv[0], scale_inv[1] = -scale_inv[0], 0.0
    bits = nvfp4.fp8_block_to_bf16(weight, scale_inv, block=(16, 16))
    assert nvfp4.amax_fp8(weight, scale_inv, block=(16, 16)) == nvfp4.amax(bits)
