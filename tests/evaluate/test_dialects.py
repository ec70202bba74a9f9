"""Checkpoints as llm-compressor and auto-round store them, held to compressed-tensors and to transformers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluating import QUICK
from running import command, tiny
from safetensors.torch import load_file
from verify.dialects import make
from verify.making import load, save

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.dialects.layouts import COMPRESSED, MODELOPT
from proofcard.checkpoint.source import Source, read_config
from proofcard.checkpoint.tensors import read_header
from proofcard.config import compose
from proofcard.config.evaluating import EvaluateConfig
from proofcard.evaluate import rounding
from proofcard.evaluate.candidates import all_of
from proofcard.evaluate.compute import Compute, computes, layer_parts
from proofcard.evaluate.intake import dequantized
from proofcard.evaluate.streams import precision
from proofcard.evaluate.weights import Checkpoint
from proofcard.serve import dequantized as copies
from proofcard.serve.layouts import Linear

GOLDEN = Path(__file__).parents[1] / "checkpoint" / "dialects" / "golden"
TEXT = np.arange(3, 40)[None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("source") / "model", "mixtral")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Callable[[str], Path]:
    """A checkpoint of a dialect, with KV scales where compressed-tensors puts them."""

    def get(dialect: str) -> Path:
        folder = make(tmp_path_factory.mktemp("made") / "checkpoint", source, dialect)
        said = read_config(folder)["quantization_config"]
        (folder / "config.json").write_text(json.dumps(read_config(source) | {"quantization_config": said}))
        if dialect == "llm-compressor":
            scales = {
                f"model.layers.{layer}.self_attn.{kind}_scale": ("BF16", np.array([0x3CA4], np.uint16))
                for layer in range(read_config(source)["num_hidden_layers"])
                for kind in "kv"
            }
            save(folder, load(folder) | scales)
        return folder

    return get


def golden_linear() -> Linear:
    stored = read_header(GOLDEN / "llm_compressor.safetensors")
    codes, scales, shared = (stored[f"nvfp4.{name}"] for name in ("codes", "scales", "shared"))
    return Linear(codes, scales, shared, None, COMPRESSED, 16)


def test_weights_are_what_compressed_tensors_makes_of_them() -> None:
    linear = golden_linear()
    values = load_file(GOLDEN / "compressed_values.safetensors")["weight.values"]
    ours = torch.from_numpy(linear.bits(1)).view(torch.bfloat16)
    assert torch.equal(ours, values)  # as numbers: a negative that was rounded to zero is +0 here
    stored = [torch.from_numpy(each.bits().copy()) for each in (linear.codes, linear.scales)]
    assert torch.equal(dequantized(*stored, linear.second_level(), COMPRESSED), values)
    factor = Linear(linear.codes, linear.scales, linear.shared, None, MODELOPT, 16)
    on_a_gpu = dequantized(*stored, factor.second_level(), MODELOPT)
    assert torch.equal(torch.from_numpy(factor.bits(1)).view(torch.bfloat16), on_a_gpu)


@pytest.mark.parametrize("name", ["narrow", "wide", "saturating"])
def test_inputs_are_rounded_as_compressed_tensors_does(name: str) -> None:
    golden = load_file(GOLDEN / "compressed_values.safetensors")
    for divisor in (golden[f"{name}.divisor"], golden[f"{name}.divisor"].reshape(1)):
        assert torch.equal(rounding.compressed(golden[f"{name}.x"], divisor), golden[f"{name}.rounded"])


@pytest.mark.parametrize(
    ("dialect", "runs"),
    [
        ("llm-compressor", ["w4a16", "w4a4", "w4a4+kv"]),
        ("auto-round", ["w4a16", "w4a4"]),
        ("modelopt W4A16", ["w4a16"]),
        ("modelopt blocks of 32", ["w4a16"]),
    ],
)
def test_logits_are_transformers_own(
    made: Callable[[str], Path], source: Path, tmp_path: Path, dialect: str, runs: list[str]
) -> None:
    """On the copy that `serve` makes; inputs rounded in hooks of our own where they are quantized."""
    from transformers import AutoModelForCausalLM

    folder = made(dialect)
    opened, checkpoint = Source(source), Checkpoint(folder, Source(source))
    candidates = all_of(checkpoint.holds())
    assert [candidate.name for candidate in candidates] == runs
    assert bool(checkpoint.names) == (dialect in ("llm-compressor", "auto-round"))  # gate_proj is w1
    names = ["recipe=local", "checkpoint=a", "source=b", "calibration.datasets.text.path=c"]
    model = compose(EvaluateConfig, "evaluate", names).model
    _, theirs = computes(opened, checkpoint, model, "cpu")
    ours = {each.name: logits(theirs, checkpoint, precision(each)) for each in candidates}
    copy = copies.folder(folder, read_config(folder), tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.bfloat16, attn_implementation=model.attn_implementation
    ).eval()
    weights = {name: torch.from_numpy(checkpoint.bits(name).copy()) for name in checkpoint.weights()}
    assert {name: each.raw().tobytes() for name, each in Source(copy).tensors.items()} == {
        name: each.numpy().tobytes() for name, each in by_own_names(checkpoint, weights).items()
    }
    plain.load_state_dict({name: bits.view(torch.bfloat16) for name, bits in weights.items()})
    with torch.no_grad():
        assert torch.equal(plain(torch.from_numpy(TEXT), use_cache=False).logits[0], ours["w4a16"])
        if "w4a4" not in ours:
            return
        for linear in checkpoint.linears():
            divisor = torch.tensor([float(checkpoint.input_scale(linear))])
            plain.get_submodule(linear).register_forward_pre_hook(
                lambda _, args, divisor=divisor: (rounding.compressed(args[0], divisor),)
            )
        assert torch.equal(plain(torch.from_numpy(TEXT), use_cache=False).logits[0], ours["w4a4"])
    assert not torch.equal(ours["w4a4"], ours["w4a16"])


def by_own_names(checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by the names of the checkpoint's files, `weight` for `weight_packed`."""
    own = {name: checkpoint.stored(name).name.replace("weight_packed", "weight") for name in weights}
    return {own[name]: weight for name, weight in weights.items()}


def logits(compute: Compute, checkpoint: Checkpoint, running_at: object) -> torch.Tensor:
    batch, states, stepper = Batch(TEXT, np.ones_like(TEXT)), None, compute.stepper
    for index in range(stepper.layers):
        name = f"{stepper.prefix}.{index}"
        stepper.load(index, stepper.read(index))
        if last := index == stepper.layers - 1:
            stepper.load_head()
        rounded = checkpoint.linears() if checkpoint.holds().input_scales else []
        linears = [linear for linear in rounded if linear.startswith(name + ".")]
        with torch.no_grad(), compute.hooked(layer_parts(stepper.modules, name), linears, caches=True):
            answer = compute.run(states, batch, running_at, to_logits=last)  # type: ignore[arg-type]
        states = answer.output
    assert answer.logits is not None
    return answer.logits


def test_the_command_reads_them_and_says_what_it_leaves_out(
    made: Callable[[str], Path], source: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"{n} and {n + 1} are numbers"}) + "\n" for n in range(3)))
    words = [f"source={source}", "recipe=local", f"calibration.datasets.text.path={texts}",
             f"evaluation.text={texts}", "output_dir=made", *QUICK]  # fmt: skip
    said = command("evaluate", f"checkpoint={made('modelopt W4A16')}", *words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "w4a4 is left out: it needs input scales" in said.stderr
    found = json.loads((tmp_path / "made" / "evaluation.json").read_text())
    assert [stream["name"] for stream in found["streams"] if stream["role"] == "candidate"] == ["w4a16"]
