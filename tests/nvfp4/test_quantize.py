import numpy as np
import pytest

from proofcard import nvfp4

SHAPES = [(1, 16), (3, 48), (7, 1040), (64, 256), (33, 3072)]


def bf16(values: np.ndarray) -> np.ndarray:
    return nvfp4.f32_to_bf16(np.asarray(values, np.float32))


def drawn(kind: str, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng([len(kind), *shape])
    normal = rng.standard_normal(shape)
    match kind:
        case "normal":
            return bf16(0.02 * normal)
        case "heavy tails":
            return bf16(rng.standard_t(1.5, shape))
        case "few rows alive":
            return bf16(normal * (rng.random((shape[0], 1)) < 0.3) + 1e-3)
        case "sparse, both zeros":
            return bf16(np.where(rng.random(shape) < 0.9, np.copysign(0.0, normal), normal))
        case "blocks of very different size":
            size = np.repeat(2.0 ** rng.integers(-40, 20, (shape[0], shape[1] // 16)), 16, axis=1)
            return bf16(normal * size)
        case "any finite bits":
            bits = rng.integers(0, 1 << 16, shape).astype(np.uint16)
            return np.where((bits & 0x7F80) == 0x7F80, bits & 0xBFFF, bits).astype(np.uint16)
        case "denormals and a few normals":
            bits = rng.integers(0, 0x180, shape).astype(np.uint16)
            return bits | rng.integers(0, 2, shape).astype(np.uint16) << 15
    raise AssertionError(kind)


KINDS = [
    "normal",
    "heavy tails",
    "few rows alive",
    "sparse, both zeros",
    "blocks of very different size",
    "any finite bits",
    "denormals and a few normals",
]


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours[1], theirs[1], err_msg="scale")
    np.testing.assert_array_equal(ours[0], theirs[0], err_msg="packed")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_modelopts(kind, shape, modelopt, modelopt_dequantize):
    weight = drawn(kind, shape)
    amax = nvfp4.amax(weight)
    if amax < 1e-37:  # all denormal: any scale that float32 holds
        amax = np.float32(1e-37)
    scale_2 = nvfp4.weight_scale_2(amax)
    ours = nvfp4.quantize(weight, scale_2)
    assert_same(ours, modelopt(weight, scale_2))
    np.testing.assert_array_equal(nvfp4.dequantize(*ours, scale_2), modelopt_dequantize(*ours, scale_2))


def test_amax_and_scale_are_modelopts_own(qtensor):
    torch = pytest.importorskip("torch")
    for kind in KINDS[:-1]:
        weight = drawn(kind, (33, 256))
        theirs = qtensor.get_weights_scaling_factor_2(torch.from_numpy(weight).view(torch.bfloat16))
        assert nvfp4.weight_scale_2(nvfp4.amax(weight)) == theirs.numpy()


@pytest.mark.parametrize("scale_2", [1e-44, 1e-38, 3.7e-12, 1 / 2688, 1 / 6, 0.01, 1.0, 913.7, 1e35])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_every_finite_bf16(order, scale_2, modelopt):
    """Small scale_2: block scales overflow and saturate. Large: they underflow to zero, then W / 0, 0 / 0."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[(bits & 0x7F80) != 0x7F80].reshape(-1, 16)
    if order == "shuffled":
        bits = np.random.default_rng(0).permutation(bits.reshape(-1)).reshape(-1, 16)
    scale_2 = np.float32(scale_2)
    assert_same(nvfp4.quantize(bits, scale_2), modelopt(bits, scale_2, saturate=True))


def test_exact_ties_go_to_the_even_code():
    """scale 1 and scale_2 1: y is the weight itself, code by code."""
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    row = [6.0, *ties, *(-np.array(ties)), -0.0]
    packed, scale = nvfp4.quantize(bf16([row]), np.float32(1))
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)
    assert scale.tolist() == [[0x38]]
    assert codes.tolist() == [7, 0, 2, 2, 4, 4, 6, 6, 8, 10, 10, 12, 12, 14, 14, 0]


@pytest.mark.parametrize("exponent", [-60, -9, 0, 30])
def test_ties_and_their_neighbours(exponent, modelopt):
    """One BF16 step to either side of each tie, in blocks with many scales."""
    scale_2 = np.float32(2.0**exponent)
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    rows = []
    for scale in (2.0**-9, 2.0**-6, 0.25, 1.0, 1.5, 13.0, 448.0):
        middle = bf16(np.concatenate([ties, -ties]) * np.float32(scale) * scale_2).astype(np.int64)
        top = bf16(np.array([6 * scale * scale_2]))
        rows += [np.concatenate([middle + step, top, top]).astype(np.uint16) for step in (-1, 0, 1)]
    weight = np.stack(rows)
    assert_same(nvfp4.quantize(weight, scale_2), modelopt(weight, scale_2))


def test_a_block_that_underflows_gets_scale_zero(modelopt, modelopt_dequantize):
    weight = np.zeros((1, 48), np.float32)
    weight[0, :4] = 2688.0, -1.0, 0.0, -0.0
    weight[0, 16:20] = 6 * 2.0**-10, -(2.0**-12), 0.0, -0.0  # 2^-10 is the tie between 0 and 2^-9
    weight[0, 32:34] = 6.1 * 2.0**-10, 0.0
    bits, scale_2 = bf16(weight), np.float32(1)
    packed, scale = nvfp4.quantize(bits, scale_2)
    assert scale.tolist() == [[0x7E, 0, 1]]
    assert packed[0, 8:16].tolist() == [0xF7, *[0x77] * 7]  # ±inf and NaN: 7, and no sign on NaN
    assert_same((packed, scale), modelopt(bits, scale_2))
    back = nvfp4.dequantize(packed, scale, scale_2)
    np.testing.assert_array_equal(back, modelopt_dequantize(packed, scale, scale_2))
    assert not nvfp4.bf16_to_f32(back[:, 16:32]).any()


def test_zero_blocks_have_scale_one(modelopt):
    weight = bf16(np.concatenate([np.ones(16), np.zeros(16), -np.zeros(16)])[None])
    packed, scale = nvfp4.quantize(weight, np.float32(0.01))
    assert scale[0, 1:].tolist() == [0x38, 0x38]
    assert not packed[0, 8:].any()
    assert_same((packed, scale), modelopt(weight, np.float32(0.01)))


def test_where_modelopt_turns_to_nan_the_scale_saturates(modelopt):
    """The cast's own limit is 464; only above it do the bytes part."""
    sizes = [440, 448, 456, 462, 464, 466, 1000]
    weight = bf16(np.repeat(np.array(sizes, np.float32)[:, None], 16, axis=1))
    scale_2 = np.float32(1 / 6)  # 6 · scale_2 is 1 in float32
    packed, scale = nvfp4.quantize(weight, scale_2)
    theirs = modelopt(weight, scale_2)
    assert theirs[1][:, 0].tolist() == [0x7E] * 5 + [0x7F] * 2
    assert scale[:, 0].tolist() == [0x7E] * 7
    assert_same((packed[:5], scale[:5]), (theirs[0][:5], theirs[1][:5]))
    assert_same((packed, scale), modelopt(weight, scale_2, saturate=True))


def test_every_byte_and_scale_dequantizes_as_modelopt_does(modelopt_dequantize):
    """All 256 packed bytes under all 256 scales, NaN scales included."""
    packed = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))
    scale = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 32))
    for scale_2 in np.float32([1e-40, 1e-36, 0.0123, 1.0, 7e35]):
        ours = nvfp4.dequantize(packed, scale, scale_2)
        theirs = modelopt_dequantize(packed, scale, scale_2)
        nan = np.isnan(nvfp4.bf16_to_f32(theirs))
        np.testing.assert_array_equal(np.isnan(nvfp4.bf16_to_f32(ours)), nan)
        np.testing.assert_array_equal(ours[~nan], theirs[~nan])
    assert nan.any()


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(threads):
    weight = drawn("heavy tails", (515, 1040))
    alone = nvfp4.quantize(weight, np.float32(0.01), threads=1)
    assert_same(nvfp4.quantize(weight, np.float32(0.01), threads=threads), alone)
    assert nvfp4.amax(weight, threads=threads) == nvfp4.amax(weight)
    np.testing.assert_array_equal(
        nvfp4.dequantize(*alone, np.float32(0.01), threads=threads),
        nvfp4.dequantize(*alone, np.float32(0.01)),
    )


def test_read_only_unaligned_and_strided_inputs():
    weight = drawn("normal", (8, 64))
    wanted = nvfp4.quantize(weight, np.float32(1e-4))
    mapped = np.frombuffer(b"\0" + weight.tobytes(), np.uint8)[1:].view(np.uint16).reshape(8, 64)
    assert not mapped.flags.writeable and not mapped.flags.aligned
    wide = np.zeros((8, 128), np.uint16)
    wide[:, ::2] = weight
    for same in (mapped, wide[:, ::2]):
        assert nvfp4.amax(same) == nvfp4.amax(weight)
        assert_same(nvfp4.quantize(same, np.float32(1e-4)), wanted)
