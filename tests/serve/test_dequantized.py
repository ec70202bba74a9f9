"""The BF16 copy of a checkpoint is what ModelOpt itself dequantizes to, sealed, and made once."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proofcard import manifest
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.checkpoint.writer import Entry
from proofcard.errors import Stop, Usage
from proofcard.serve import dequantized

ROOT = Path(__file__).parents[2]


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def copy(demo: Path, work: Path) -> Path:
    return dequantized.folder(demo, config_of(demo), work)


def test_every_weight_is_what_modelopt_dequantizes_to(demo: Path, copy: Path):
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    from safetensors.torch import load_file

    packed = load_file(demo / "model.safetensors")
    plain = load_file(copy / "model.safetensors")
    quantized = [name for name in plain if f"{name}_scale_2" in packed]
    assert len(quantized) == 144
    for name in quantized:
        weight = NVFP4QTensor(plain[name].shape, torch.bfloat16, packed[name])
        said = weight.dequantize(
            dtype=torch.bfloat16,
            scale=packed[f"{name}_scale"],
            double_scale=packed[f"{name}_scale_2"],
            block_sizes={-1: 16},
        )
        assert torch.equal(said.view(torch.int16), plain[name].view(torch.int16)), name


def test_everything_else_is_as_stored_and_no_scale_is_left(demo: Path, copy: Path):
    stored, plain = read_folder(demo), read_folder(copy)
    others = {name for name in plain if f"{name}_scale_2" not in stored}
    assert len(others) == 33
    assert all(stored[name].sha256() == plain[name].sha256() for name in others)
    assert plain.keys() == read_folder(ROOT / "demo/model").keys() - {
        name for name in read_folder(ROOT / "demo/model") if name.endswith("_scale_inv")
    }


def test_its_configuration_names_no_quantization_and_its_code_and_tokenizer_come_along(
    demo: Path, copy: Path
):
    config = config_of(demo)
    del config["quantization_config"]
    assert config_of(copy) == config
    for name in ("modeling_minimax_m2.py", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (copy / name).read_bytes() == (demo / name).read_bytes()
    assert not (copy / "hf_quant_config.json").exists()


def test_it_is_sealed_and_made_once(demo: Path, copy: Path, work: Path):
    assert manifest.read(copy).stage == "dequantize"
    made = (copy / "model.safetensors").stat().st_mtime_ns
    assert dequantized.folder(demo, config_of(demo), work) == copy
    assert (copy / "model.safetensors").stat().st_mtime_ns == made


def test_a_checkpoint_that_nobody_sealed_gives_the_same_bytes(demo: Path, copy: Path, tmp_path: Path):
    unsealed = Path(shutil.copytree(demo, tmp_path / "theirs"))
    (unsealed / manifest.NAME).unlink()
    again = dequantized.folder(unsealed, config_of(unsealed), tmp_path)
    assert (again / "model.safetensors").read_bytes() == (copy / "model.safetensors").read_bytes()


def test_a_sealed_file_that_changed_is_not_served(demo: Path, tmp_path: Path):
    changed = Path(shutil.copytree(demo, tmp_path / "changed"))
    with (changed / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(Stop, match=r"model\.safetensors differs from what was sealed: see proofcard verify "):
        dequantized.folder(changed, config_of(changed), tmp_path)
    assert not (tmp_path / "dequantized").exists()


def flip(path: Path, place: int) -> None:
    """One bit of a file; its size and its times stay."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def pair(demo: Path, copy: Path, work: Path, tmp_path: Path) -> Path:
    """A checkpoint of ours, and the work folder that holds its copy."""
    checkpoint = Path(shutil.copytree(demo, tmp_path / demo.name))
    shutil.copytree(work / "dequantized", tmp_path / "dequantized")
    assert dequantized.folder(checkpoint, config_of(checkpoint), tmp_path).name == copy.name
    return checkpoint


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"]
)
def test_a_bit_of_the_checkpoint_that_flipped_later_is_not_served(pair: Path, name: str):
    config = config_of(pair)
    flip(pair / name, -2)
    with pytest.raises(
        Usage, match=rf"{name} differs from what was sealed: see proofcard verify checkpoint="
    ):
        dequantized.folder(pair, config, pair.parent)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "manifest.json"])
def test_a_bit_of_the_copy_that_flipped_is_not_served(pair: Path, copy: Path, name: str):
    flip(pair.parent / "dequantized" / copy.name / name, -2)
    with pytest.raises(Stop, match="is damaged: delete it, and it will be made again"):
        dequantized.folder(pair, config_of(pair), pair.parent)


@pytest.mark.parametrize(
    "name", ["more.safetensors", "chat_template.json", "tokenization_x.py", "spiece.model"]
)
def test_what_was_put_beside_a_sealed_checkpoint_is_not_served(pair: Path, name: str):
    shutil.copyfile(pair / ("model.safetensors" if name.endswith("tensors") else "config.json"), pair / name)
    with pytest.raises(Stop, match=rf"{name} was not sealed and would be loaded|is in model"):
        dequantized.folder(pair, config_of(pair), pair.parent)


def test_a_checkpoint_that_nobody_sealed_is_read_again_each_time(pair: Path, copy: Path):
    (pair / "manifest.json").unlink()
    first = dequantized.folder(pair, config_of(pair), pair.parent)
    flip(pair / "model.safetensors", -1)
    second = dequantized.folder(pair, config_of(pair), pair.parent)
    assert len({copy, first, second}) == 3


def test_a_plain_copy_that_is_served_itself_is_held_to_its_seal(copy: Path, tmp_path: Path):
    plain = Path(shutil.copytree(copy, tmp_path / "plain"))
    assert dequantized.folder(plain, config_of(plain), tmp_path) == plain
    flip(plain / "model.safetensors", -1)
    with pytest.raises(Usage, match=r"model\.safetensors differs from what was sealed"):
        dequantized.folder(plain, config_of(plain), tmp_path)


def test_a_damaged_copy_is_named(demo: Path, tmp_path: Path):
    made = dequantized.folder(demo, config_of(demo), tmp_path)
    (made / "tokenizer.json").unlink()
    with pytest.raises(Stop, match="is damaged: delete it, and it will be made again"):
        dequantized.folder(demo, config_of(demo), tmp_path)


def test_an_fp8_source_is_served_too(tmp_path: Path):
    model = ROOT / "demo/model"
    plain = read_folder(dequantized.folder(model, config_of(model), tmp_path))
    source = Source(model)
    assert sorted(plain) == source.weights()
    assert all(np.array_equal(plain[name].bits(), source.bits(name)) for name in plain)


def test_a_model_in_bf16_is_served_as_it_is(copy: Path, tmp_path: Path):
    assert dequantized.folder(copy, config_of(copy), tmp_path) == copy


def test_another_format_is_refused(demo: Path, tmp_path: Path):
    config = config_of(demo) | {"quantization_config": {"quant_method": "awq"}}
    with pytest.raises(
        Usage, match="is quantized as awq: only NVFP4, FP8 in blocks and BF16 are supported here"
    ):
        dequantized.folder(demo, config, tmp_path)


def test_what_does_not_fit_into_memory_is_refused():
    with pytest.raises(Usage, match=r"needs 457 GB of memory, but this machine has \d+: serve it on GPUs"):
        dequantized.check_memory([Entry("experts", "BF16", (228_700_000, 1000))])
