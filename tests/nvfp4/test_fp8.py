import numpy as np
import pytest

from proofcard import nvfp4

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


def spread(weight, scale_inv, block):
    """The factor of each weight."""
    factors = np.repeat(np.repeat(scale_inv, block[0], 0), block[1], 1)
    return np.ascontiguousarray(factors[: weight.shape[0], : weight.shape[1]])


def by_torch(weight, scale_inv, block, dtype=torch.bfloat16):
    values = torch.from_numpy(weight).view(torch.float8_e4m3fn).float()
    made = (values * torch.from_numpy(spread(weight, scale_inv, block))).to(dtype)
    return made.view(torch.uint16 if dtype == torch.bfloat16 else torch.uint32).numpy()


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


@pytest.mark.parametrize(("shape", "block"), CASES, ids=str)
def test_scales_of_what_is_not_rounded_are_modelopt_s(shape, block, modelopt_resident):
    weight, scale_inv = source(shape, block)
    weight[1, :16] = 0x80  # a block of zeros, and one whose scale underflows
    weight[2, :16] &= 0x81
    full = nvfp4.fp8_block_to_f32(weight, scale_inv, block=block)
    np.testing.assert_array_equal(full.view(np.uint32), by_torch(weight, scale_inv, block, torch.float32))
    amaxes = nvfp4.block_amaxes_fp8(weight, scale_inv, block=block)
    np.testing.assert_array_equal(amaxes, np.abs(full).reshape(len(full), -1, 16).max(axis=2))
    own = nvfp4.weight_scale_2(nvfp4.amax_fp8(weight, scale_inv, block=block))
    for scale_2 in (own, np.float32(own * 1000)):  # as with a far larger sibling: most scales underflow
        wanted = modelopt_resident(weight, spread(weight, scale_inv, block), scale_2)
        ours = nvfp4.quantize_fp8(weight, scale_inv, scale_2, block=block, unrounded_scales=True)
        np.testing.assert_array_equal(ours[1], wanted[1])
        np.testing.assert_array_equal(ours[0], wanted[0])
        bits = nvfp4.fp8_block_to_bf16(weight, scale_inv, block=block)
        for one, other in zip(nvfp4.quantize(bits, scale_2, block_amaxes=amaxes), ours, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (ours[1] == 0).any() and (ours[1] == 0x38).any()


def test_what_is_not_rounded_gives_other_scales():
    """Otherwise nothing here could tell the two ways apart."""
    weight, scale_inv = source((512, 1024), (128, 128))
    scale_inv = np.random.default_rng(3).uniform(1, 2, scale_inv.shape).astype(np.float32)
    scale_2 = nvfp4.weight_scale_2(nvfp4.amax_fp8(weight, scale_inv))
    _, rounded = nvfp4.quantize_fp8(weight, scale_inv, scale_2)
    _, unrounded = nvfp4.quantize_fp8(weight, scale_inv, scale_2, unrounded_scales=True)
    assert 0.005 < np.mean(rounded != unrounded) < 0.05


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
    amaxes = nvfp4.block_amaxes_fp8(weight, scale_inv)
    np.testing.assert_array_equal(nvfp4.block_amaxes_fp8(weight, scale_inv, threads=threads), amaxes)
    for unrounded in (False, True):
        alone = nvfp4.quantize_fp8(*arguments, unrounded_scales=unrounded)
        ours = nvfp4.quantize_fp8(*arguments, unrounded_scales=unrounded, threads=threads)
        for one, other in zip(ours, alone, strict=True):
            np.testing.assert_array_equal(one, other)
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
    full = nvfp4.fp8_block_to_f32(weight, scale_inv, block=(16, 16))
    np.testing.assert_array_equal(
        nvfp4.block_amaxes_fp8(weight, scale_inv, block=(16, 16)),
        np.abs(full).reshape(64, 4, 16).max(axis=2),
    )
