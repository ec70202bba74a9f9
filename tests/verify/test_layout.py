"""What no rule explains is named."""

import pytest
from verify.naming import linear, plain, tensor

from proofcard.verify.inventory import Inventory
from proofcard.verify.layout import quantized_nothing, unexplained

MODULE = "model.layers.0.mlp.down_proj"


def test_modelopt_s_layout_and_plain_weights_are_explained() -> None:
    inventory = Inventory(linear(MODULE) | plain("model.norm.weight", 32) | plain("ids", 4, dtype="I64"))
    assert unexplained(inventory, None) == []
    assert quantized_nothing(inventory) is None


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("qweight", "U8", (4, 4, 4)), ("absmax", "F32", (8,)), ("svdquant_lora_a", "BF16", (8, 4)),
        ("experts_blocks", "U8", (2, 4, 4)), ("weight_scale_inv", "F32", (1, 1)),
    ],
)  # fmt: skip
def test_a_tensor_of_another_layout_is_one_sentence(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    other = f"{MODULE}.{name}"
    [sentence] = unexplained(Inventory(linear(MODULE) | {other: tensor(other, dtype, shape)}), None)
    assert sentence.startswith(f"{other} ({dtype} {list(shape)})")


def test_a_checkpoint_with_nothing_quantized_says_so() -> None:
    assert quantized_nothing(Inventory(plain("model.norm.weight", 32))) is not None
