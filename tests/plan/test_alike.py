"""What is alike is counted or made once: layers and names where ModelOpt cannot tell one from another."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils.quantization_config import FineGrainedFP8Config

from proofcard.plan import alike, outline, weights
from proofcard.plan.outline import Outline


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*mlp.experts*",
        "*[kv]_bmm_quantizer",
        "output.*",
        "*linear_attn.conv1d*",
        "*w2*",
        "*.2d_*",
        "nn.BatchNorm1d",
    ],
)
def test_a_pattern_without_numbers_tells_no_layers_apart(pattern: str) -> None:
    assert not alike.tells_numbers_apart(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "*layers.0.*",
        "*.1*",
        "*1",
        "2*",
        "*layers.?.*",
        "*[0-3]*",
        "*[!a]*",
        "*[kv1]*",
        "*[a-z]*",
        "*a*1.*",
        "*[kv]1*",
    ],
)
def test_one_with_a_number_may(pattern: str) -> None:
    assert alike.tells_numbers_apart(pattern)


def outlined(folder: Path, layers: torch.nn.ModuleList) -> Outline:
    found = Outline(folder, {})
    for name, value in layers.state_dict().items():
        found.add(f"m.layers.{name}", "BF16", tuple(value.shape))
    return found


def five() -> torch.nn.ModuleList:
    return torch.nn.ModuleList(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)) for _ in range(5)
    )


CHANGES: dict[str, Any] = {
    "a shape": lambda layer: layer.__setattr__("0", torch.nn.Linear(4, 8)),
    "a dtype": lambda layer: layer.__getattr__("0").half(),
    "a type": lambda layer: layer.__setattr__("1", torch.nn.RMSNorm(4)),
    "a name": lambda layer: layer.add_module("more", torch.nn.Identity()),
    "a bias": lambda layer: layer.__setattr__("0", torch.nn.Linear(4, 4, bias=False)),
    "a buffer": lambda layer: layer.register_buffer("table", torch.zeros(2)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_module_shape_or_dtype_is_another_kind(tmp_path: Path, what: str) -> None:
    layers = five()
    CHANGES[what](layers[2])
    assert alike.first_alike(layers, "m.layers", outlined(tmp_path, layers), {"*": {}}) == [0, 0, 2, 0, 0]


def test_so_is_another_dtype_in_the_files(tmp_path: Path) -> None:
    layers = five()
    found = outlined(tmp_path, layers)
    found.add("m.layers.4.0.weight", "F32", (4, 4))
    assert alike.first_alike(layers, "m.layers", found, {}) == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("quant_cfg", [{"*layers.0.*": {}}, {"nn.Linear": {"*.1.*": {}}}])
def test_a_pattern_that_names_a_layer_leaves_none_alike(tmp_path: Path, quant_cfg: dict[str, Any]) -> None:
    layers = five()
    assert alike.first_alike(layers, "m.layers", outlined(tmp_path, layers), quant_cfg) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("more", [{}, {"*layers.1.*input_quantizer": {"enable": False}}])
def test_each_pattern_is_counted_for_every_quantizer_whether_numbers_are_told_apart_or_not(
    more: dict[str, Any],
) -> None:
    quantizers = {
        f"m.layers.{layer}.{leaf}_quantizer": leaf != "a.2.output"
        for layer in range(12)
        for leaf in ("a.0.input", "a.2.input", "a.2.output", "b.weight")
    } | {"head.input_quantizer": False}
    patterns = {"*": {"enable": False}, "*a*input_quantizer": {}, "*head*": {"enable": False}, **more}
    matches = {pattern: [name for name in quantizers if fnmatch(name, pattern)] for pattern in patterns}
    decides = {name: [pattern for pattern in patterns if name in matches[pattern]][-1] for name in quantizers}
    assert [(one.glob, one.matches, one.decides) for one in weights._globs(patterns, quantizers)] == [
        (pattern, len(names), [*decides.values()].count(pattern)) for pattern, names in matches.items()
    ]


def test_fp8_linears_are_those_of_transformers_and_share_nothing() -> None:
    from transformers.integrations import finegrained_fp8

    def model() -> torch.nn.Module:
        with torch.device("meta"):
            inner = torch.nn.ModuleList(torch.nn.Linear(256, 128 + n // 2, bias=n == 3) for n in range(5))
            made = torch.nn.ModuleDict({"kept": torch.nn.Linear(128, 8), "inner": inner})
        made._tp_plan = None  # type: ignore[assignment]
        return made.requires_grad_(False)

    config = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["kept"]}
    ours, theirs, before = model(), model(), vars(finegrained_fp8).copy()
    eight_bits = outline._as_loaded(ours, {"quantization_config": config})
    settings = FineGrainedFP8Config(weight_block_size=(128, 128), modules_to_not_convert=["kept"])
    with torch.device("meta"):
        finegrained_fp8.replace_with_fp8_linear(theirs, quantization_config=settings)
    assert eight_bits == {f"inner.{n}" for n in range(5)}
    assert vars(finegrained_fp8) == before

    def told(whole: torch.nn.Module) -> list[Any]:
        return [
            (name, type(one), sorted(vars(one)), {n: (p.dtype, p.shape, p.device) for n, p in own})
            for name, one in whole.named_modules()
            for own in [list(one.named_parameters(recurse=False))]
        ]

    assert told(ours) == told(theirs)
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    for held in ("_parameters", "_buffers", "_forward_hooks", "_non_persistent_buffers_set"):
        assert len({id(vars(one)[held]) for one in ours.modules()}) == len(list(ours.modules())), held
