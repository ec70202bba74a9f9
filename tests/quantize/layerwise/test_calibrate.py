"""Amaxes and the scales that follow: shared where ModelOpt shares them, refused where nothing came."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantize.layerwise.conftest import layer

from proofcard import nvfp4
from proofcard.errors import Stop
from proofcard.quantize.layerwise.calibrate import (
    FORCED,
    ROUTED,
    LayerStatistics,
    exported_amaxes,
    input_scales,
    kv_scales,
    quantizer_name,
)
from proofcard.quantize.layerwise.observer import Observer

LINEARS, ATTENTION = layer(0).linears, layer(0).attentions[0]


def statistics(amax: dict[str, float]) -> LayerStatistics:
    experts = layer(0).experts()
    groups = [(f"{expert}.w1", f"{expert}.w3") for expert in experts]
    return LayerStatistics(amax, [], [], [], {}, {}, groups, {})


def amaxes() -> dict[str, float]:
    return {name: 1.0 + number for number, name in enumerate(LINEARS)}


def test_an_observer_keeps_the_largest_of_each_way_and_starts_again() -> None:
    observer = Observer(layer(0), torch.device("cpu"))
    rows = torch.tensor([[1.0, -3.0], [2.0, 0.5]])
    observer.see(LINEARS[0], rows)
    observer.see(LINEARS[2], rows)  # the same tensor, measured once
    observer.flush(ROUTED)
    observer.only = {LINEARS[1]}
    observer.see(LINEARS[0], 9 * rows)
    observer.see(LINEARS[1], 2 * rows)
    observer.see(LINEARS[1], rows[:0])
    observer.flush(FORCED)
    assert observer.take()[:, :3].tolist() == [[3.0, 0.0, 3.0], [0.0, 6.0, 0.0]]
    assert not observer.take().any()


def test_gate_and_up_are_exported_with_the_larger_amax() -> None:
    exported = exported_amaxes(statistics(amaxes()), layer(0), "all_experts")
    for expert in layer(0).experts():
        assert exported[f"{expert}.w1"] == exported[f"{expert}.w3"] == amaxes()[f"{expert}.w3"]
        assert exported[f"{expert}.w2"] == amaxes()[f"{expert}.w2"]


def test_with_natural_routing_all_experts_share_as_in_modelopt() -> None:
    cold = amaxes() | {f"{layer(0).experts()[1]}.w2": 0.0}
    exported = exported_amaxes(statistics(cold), layer(0), "natural")
    largest = max(cold[name] for name in cold if name.endswith(".w2"))
    assert {exported[f"{expert}.w2"] for expert in layer(0).experts()} == {largest}
    with pytest.raises(Stop, match="amax"):
        exported_amaxes(statistics(cold), layer(0), "all_experts")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_amax_that_is_not_finite_is_never_hidden_by_a_larger_one(value: float) -> None:
    with pytest.raises(Stop, match=r"experts\.0\.w1\.input_quantizer"):
        exported_amaxes(statistics(amaxes() | {LINEARS[0]: value}), layer(0), "natural")


def test_scales_are_those_of_the_number_format() -> None:
    [(name, scale)] = input_scales({LINEARS[0]: 3.0}, LINEARS[:1])
    assert (name, scale) == (f"{LINEARS[0]}.input_scale", nvfp4.input_scale(3.0))
    amax = {f"{ATTENTION}.{kind}_bmm_quantizer": 4.0 for kind in "kv"}
    biases = {ATTENTION: {"k": torch.ones(1, 2, 1, 4, dtype=torch.bfloat16)}}
    made = dict(kv_scales(amax, layer(0), biases))
    leaves = ("k_proj.k_scale", "k_proj.k_bias", "v_proj.v_scale")
    assert list(made) == [f"{ATTENTION}.{leaf}" for leaf in leaves]
    assert made[f"{ATTENTION}.v_proj.v_scale"] == nvfp4.kv_scale(4.0)
    assert np.asarray(made[f"{ATTENTION}.k_proj.k_bias"]).nbytes == 16
    none = replace(layer(0), attentions=[])
    assert list(kv_scales({}, none, {})) == []


def test_a_quantizer_is_called_as_modelopt_calls_it() -> None:
    assert quantizer_name("x.w1") == "x.w1.input_quantizer"
    assert quantizer_name("x.k_bmm_quantizer") == "x.k_bmm_quantizer"
