"""The demo, made by both engines: the same bytes everywhere, verified, and the golden ones."""

import json
import shutil
from pathlib import Path

import pytest
from running import ROOT, command, contents, quantize
from several import SMALL

from proofcard import manifest
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.config import QuantizeConfig, compose
from proofcard.quantize.planning import disk
from proofcard.units import size

GOLDEN = Path(__file__).parent / "golden" / "demo_weights.json"


@pytest.fixture(scope="module")
def by_modelopt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint as NVIDIA's own path makes it."""
    return quantize(tmp_path_factory.mktemp("modelopt"), "engine=modelopt")


def test_modelopt_gives_the_same_bytes(demo: Path, by_modelopt: Path) -> None:
    ours, theirs = contents(demo), contents(by_modelopt)
    own = {name for name in ours if name.startswith("calibration_")}
    assert ours.keys() - theirs.keys() == own
    assert [name for name in theirs if theirs[name] != ours[name]] == [manifest.NAME]  # it tells the engine


def test_two_folders_give_the_same_bytes(alone: dict[str, bytes], tmp_path: Path) -> None:
    again = quantize(tmp_path / "another" / "place", *SMALL, fresh=True)  # with another seed of hashes
    assert contents(again) == alone  # the manifest too


def test_two_threads_give_the_same_bytes(alone: dict[str, bytes], tmp_path: Path) -> None:
    both = contents(quantize(tmp_path, *SMALL, "hardware.threads=2"))
    assert alone.keys() == both.keys()
    assert [name for name in both if alone[name] != both[name]] == [manifest.NAME]  # it tells the threads
    assert manifest.read(tmp_path / "checkpoint").key == json.loads(alone[manifest.NAME])["key"]


def test_verify_says_verified(demo: Path, tmp_path: Path) -> None:
    said = command("verify", f"checkpoint={demo}", f"source={ROOT / 'demo' / 'model'}", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[-1].startswith("verified")


@pytest.mark.parametrize("made_by", ["demo", "by_modelopt"])
def test_the_weights_are_the_golden_ones(made_by: str, request: pytest.FixtureRequest) -> None:
    """Weights and block scales follow from the source alone: every machine must reproduce them.

    The file's `origin` says what made it; `tests/quantize/write_golden.py` writes it anew.
    """
    golden = json.loads(GOLDEN.read_text())
    checkpoint = request.getfixturevalue(made_by)
    made = {name: entry.sha256 for name, entry in manifest.read(checkpoint).outputs.tensors.items()}
    assert golden["tensors"]
    assert {name: made.get(name) for name in golden["tensors"]} == golden["tensors"]
    calibrated = made.keys() - golden["tensors"].keys()
    assert {name.rsplit(".", 1)[1] for name in calibrated} == {"input_scale", "k_scale", "v_scale"}


def test_the_inventory_is_the_formula_s(demo: Path) -> None:
    config = json.loads((demo / "config.json").read_text())
    layers, experts = config["num_hidden_layers"], config["num_local_experts"]
    statistics = manifest.read(demo).statistics
    # per layer: input and weight of every expert projection, k and v of the cache
    assert statistics["quantizers"] == layers * (experts * 3 * 2 + 2)
    # per layer: four tensors per expert projection; q k v o, two cache scales, four norms, gate, its bias
    assert statistics["tensors"] == layers * (experts * 3 * 4 + 12) + 3


def test_what_a_server_needs_is_there(demo: Path) -> None:
    names = contents(demo).keys()
    source = contents(ROOT / "demo" / "model")
    assert {"config.json", "hf_quant_config.json", "manifest.json", "generation_config.json"} <= names
    for name in source:
        if name.endswith((".py", ".jinja")) or name.startswith(("tokenizer", "special")):
            assert (demo / name).read_bytes() == source[name]
    config = json.loads((demo / "config.json").read_text())
    assert config["quantization_config"]["quant_algo"] == "NVFP4"
    assert config["auto_map"] == json.loads(source["config.json"])["auto_map"]
    assert "/" not in str(config["auto_map"])


def test_nothing_in_it_tells_where_or_when_it_was_made(demo: Path) -> None:
    for name, content in contents(demo).items():
        assert str(demo.parent).encode() not in content, name
        assert str(ROOT).encode() not in content, name


def test_the_second_run_reuses_the_first(demo: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in demo.iterdir()}
    said = command("quantize", "output_dir=checkpoint", "tracking=off", cwd=demo.parent)
    assert said.returncode == 0
    assert "checkpoint (reused)" in said.stdout
    assert {path.name: path.stat().st_mtime_ns for path in demo.iterdir()} == before


def test_another_recipe_does_not_overwrite_it(demo: Path) -> None:
    said = command("quantize", "output_dir=checkpoint", "tracking=off", "kv_cache=none", cwd=demo.parent)
    assert said.returncode == 2
    assert "is the result of another configuration" in said.stderr


def test_what_it_takes_on_disk_is_said_beforehand() -> None:
    source = Source(ROOT / "demo" / "model")
    weights = sum(path.stat().st_size for path in source.path.glob("*.safetensors"))
    said = disk(compose(QuantizeConfig, "config", []), source)
    hidden = 2 * 80 * 128 * 256 * 2
    assert said == (
        f"disk: up to {size(weights)} for the checkpoint, and until it is sealed up to "
        f"{size(hidden)} for hidden states"
    )
    assert disk(compose(QuantizeConfig, "config", ["engine=modelopt"]), source).endswith("the checkpoint")


def test_a_flipped_bit_is_found_by_the_command(demo: Path, tmp_path: Path) -> None:
    harmed = tmp_path / "harmed"
    shutil.copytree(demo, harmed)
    tensor = read_folder(harmed)["model.layers.1.block_sparse_moe.experts.3.w2.weight"]
    content = bytearray(tensor.path.read_bytes())
    content[tensor.start + 77] ^= 0x10
    tensor.path.write_bytes(content)
    said = command("verify", f"checkpoint={harmed}", f"source={ROOT / 'demo' / 'model'}", cwd=tmp_path)
    assert said.returncode == 1
    assert "experts.3.w2.weight" in said.stdout.replace("\n", "")
    assert "77" in said.stdout
