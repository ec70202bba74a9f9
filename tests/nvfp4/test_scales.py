from importlib.util import find_spec

import numpy as np
import pytest

from proofcard import nvfp4

torch = pytest.importorskip("torch")
# Not importorskip: what is imported while tests are collected is there for all others of the process.
pytestmark = pytest.mark.skipif(find_spec("modelopt") is None, reason="modelopt is not installed")


def amaxes() -> np.ndarray:
    """Every positive finite BF16 that leaves a scale above zero, and float32s between them."""
    bits = np.arange(0x80, 0x7F80, dtype=np.uint16)
    between = np.random.default_rng(0).integers(0x00800000, 0x7F800000, 20000).astype(np.uint32)
    return np.concatenate([nvfp4.bf16_to_f32(bits), between.view(np.float32)])


def quantizer(num_bits, block_sizes, values):
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    made = TensorQuantizer(QuantizerAttributeConfig(num_bits=num_bits, block_sizes=block_sizes))
    made.amax = torch.from_numpy(values.copy())
    return made


def test_weight_scale_2_and_input_scale(qtensor):
    values = amaxes()
    made = quantizer((2, 1), {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}, values)
    weight = qtensor.get_weights_scaling_factor_2_from_quantizer(made).numpy()
    activation = qtensor.get_activation_scaling_factor(made).numpy()
    np.testing.assert_array_equal([nvfp4.weight_scale_2(value) for value in values], weight)
    np.testing.assert_array_equal([nvfp4.input_scale(value) for value in values], activation)


@pytest.mark.parametrize("affine", [False, True])
def test_kv_scale(affine):
    """What the export writes for k_scale: amax over 448, with a bias beside it or not."""
    from modelopt.torch.export.quant_utils import postprocess_state_dict

    for value in amaxes()[::97]:
        state = {"self_attn.k_bmm_quantizer._amax": torch.tensor(value)}
        if affine:
            state["self_attn.k_bmm_quantizer._bias_value"] = torch.zeros(1, 1, 2, 4)
        exported = postprocess_state_dict(state, 448, "FP8")
        assert ("self_attn.k_proj.k_bias" in exported) == affine
        scale = exported["self_attn.k_proj.k_scale"]
        assert scale.dtype == torch.float32
        assert nvfp4.kv_scale(value) == scale.numpy()


@pytest.mark.parametrize("scale", [nvfp4.weight_scale_2, nvfp4.input_scale, nvfp4.kv_scale])
@pytest.mark.parametrize("amax", [0.0, -1.0, np.nan, np.inf, 1e-45])
def test_an_amax_without_a_scale_is_refused(scale, amax):
    with pytest.raises(ValueError, match=f"{scale.__name__}: amax"):
        scale(amax)


def test_modelopt_has_no_nvfp4_form_of_an_all_zero_weight(qtensor):
    """Why it is refused here: its own bytes are NaN scales."""
    _, scale, scale_2 = qtensor.quantize(torch.zeros(1, 16, dtype=torch.bfloat16), 16)
    assert scale_2 == 0 and scale.isnan().all()
