"""Shapes held to the source's, or to those of fellows."""

from pathlib import Path

from verify.making import W2
from verify.naming import linear, plain

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.verify.inventory import Inventory
from proofcard.verify.shapes import of_source, regular

EXPERT = "model.layers.{}.mlp.experts.{}.w1"


def test_packed_weights_have_as_many_values_as_the_source_s(checkpoint: Path, source: Path) -> None:
    tensors, weights = read_folder(checkpoint), Source(source)
    assert list(of_source(Inventory(tensors), weights)) == []
    other = linear(W2, rows=64, columns=64) | plain("model.norm.weight", 63)
    packed, norm = of_source(Inventory(tensors | other), weights)
    assert (norm.tensor, packed.tensor) == ("model.norm.weight", f"{W2}.weight")
    assert packed.message.startswith("it holds [64, 64] weights, the source [")


def test_experts_of_a_layer_are_alike_and_layers_may_vary() -> None:
    alike = linear(EXPERT.format(0, 0)) | linear(EXPERT.format(0, 1))
    wider = linear(EXPERT.format(1, 0), rows=64) | linear(EXPERT.format(1, 1), rows=64)
    assert list(regular(Inventory(alike | wider))) == []
    found = list(regular(Inventory(alike | linear(EXPERT.format(0, 2), rows=48))))
    assert {each.tensor for each in found} == {
        f"{EXPERT.format(0, 2)}.{leaf}" for leaf in ("weight", "weight_scale")
    }


def test_as_many_bytes_in_another_shape_are_named() -> None:
    tensors = plain("a.0.w.weight", 32, 16) | plain("a.1.w.weight", 16, 32)
    [found] = regular(Inventory(tensors))
    assert (found.tensor, found.message) == (
        "a.1.w.weight",
        "it is BF16 [16, 32]; a.0.w.weight is BF16 [32, 16]",
    )
