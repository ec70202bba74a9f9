"""What a source brings, through the commands: carried by both engines, or named before anything is drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from quantize.changing import EXPERT, GENERATION, State, built, change_config, change_tensors
from running import command, contents, python, tiny, tiny_recipe

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.errors import Stop
from proofcard.quantize import fit, preflight


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("moe") / "source", "qwen3_moe")


@pytest.fixture
def source(moe: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(moe, tmp_path / "source"))


# --- what is no part of the model --------------------------------------------------------------------


def test_stored_rotation_frequencies_are_left_out(source: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(source, lambda state: state.update({name: torch.ones(8)}))
    ours, model = built(source)
    assert fit.mtp_tensors(ours, model) == []


@pytest.mark.parametrize(
    "file", ["generation_config.json", "tokenizer_config.json", "preprocessor_config.json"]
)
def test_settings_that_no_engine_could_read_are_named(source: Path, file: str) -> None:
    (source / file).write_text("{")
    with pytest.raises(Stop, match=rf"{file} is not valid JSON"):
        preflight.check_files(Source(source))


def test_an_adapter_beside_the_model_is_named(source: Path) -> None:
    (source / "adapter_config.json").write_text("{}")
    with pytest.raises(Stop, match="this adapter beside the model"):
        preflight.check_files(Source(source))


# --- through the commands ----------------------------------------------------------------------------


def test_a_width_of_24_is_named_by_quantize_and_plan_before_anything_is_drawn(
    tmp_path: Path, texts: Path
) -> None:
    folder = tiny(tmp_path / "source", "mixtral", intermediate_size=24)
    for program, extra in (("quantize", ["output_dir=out"]), ("plan", [])):
        said = command(program, "tracking=off", *extra, *tiny_recipe(folder, texts), cwd=tmp_path)
        assert said.returncode == 2
        last = said.stderr.splitlines()[-1]
        assert last == (
            f"{program}: model.layers.0.block_sparse_moe.experts.0.w2 has 24 input channels, not a multiple "
            "of 16: NVFP4 cannot pack its weight"
        )
    assert not (tmp_path / "out").exists() and not (tmp_path / "runs" / "samples").exists()


def test_both_engines_carry_what_the_source_brings(moe: Path, tmp_path: Path, texts: Path) -> None:
    """An F16 source in transformers 5's spelling, with a head for further tokens and settings of its own."""
    folder = Path(shutil.copytree(moe, tmp_path / "source"))

    def change(state: State) -> None:
        head = {name: value for name, value in state.items() if ".layers.2." in name}
        state.update({name.replace(".layers.2.", ".layers.3."): value * 2 for name, value in head.items()})
        state["model.layers.3.eh_proj.weight"] = torch.ones(64, 128)
        state["model.layers.3.enorm.weight"] = torch.full((64,), 0.3, dtype=torch.float32)
        for name in list(state):
            if state[name].dtype == torch.bfloat16:
                state[name] = state[name].half()

    change_tensors(folder, change)
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_nextn_predict_layers": 1, "torch_dtype": "float16", "my_note": [1]}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta", 1e4)}
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_bytes(GENERATION)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    (folder / "preprocessor_config.json").write_text("{ }")
    (folder / "README.md").write_text("another model's card")
    for name in ("pytorch_model.bin", "params.json", ".hidden", "hf_quant_config.json"):
        (folder / name).write_text("{}")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_text("")
    program = Path(__file__).with_name("both_engines.py")
    shared = [*tiny_recipe(folder, texts), "model.ignored_keys=[my_note]"]
    done = python(program, str(tmp_path / "made"), "it=kv_cache=fp8", "--", *shared, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    left = {path.name: path for path in (tmp_path / "made").iterdir()}
    assert {"it-layerwise", "it-modelopt"} <= left.keys(), [
        p.read_text() for n, p in left.items() if "txt" in n
    ]
    one, other = (
        {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}
        for made in (left["it-layerwise"], left["it-modelopt"])
    )
    for files in (one, other):
        files.pop("manifest.json")
    assert {n: c for n, c in one.items() if not n.startswith("calibration_")} == other
    for name in (
        "generation_config.json",
        "additional_chat_templates/tools.jinja",
        "preprocessor_config.json",
    ):
        assert other[name] == (folder / name).read_bytes()
    left_out = {"README.md", "pytorch_model.bin", "params.json", ".hidden", "figures/a.png"}
    assert not left_out & other.keys()
    made = json.loads(other["config.json"])
    quantization = made.pop("quantization_config")
    assert made == config | {"torch_dtype": "bfloat16"}
    assert list(made) == list(config)
    assert "model.layers.3*" in quantization["ignore"]
    assert "model.layers.3*" in json.loads(other["hf_quant_config.json"])["quantization"]["exclude_modules"]
    tensors = {name: t for f in ("model", "mtp") for name, t in _read(left["it-modelopt"], f).items()}
    assert json.loads(other["model.safetensors.index.json"])["weight_map"] == {
        name: tensor.path.name for name, tensor in tensors.items()
    }
    mtp_tensors = {name: t.dtype for name, t in tensors.items() if ".layers.3." in name}
    assert len(mtp_tensors) > 10 and mtp_tensors.pop("model.layers.3.enorm.weight") == "F32"
    assert set(mtp_tensors.values()) == {"BF16"}
    assert {t.dtype for n, t in tensors.items() if ".layers.3." not in n} == {"U8", "F8_E4M3", "F32", "BF16"}
    said = command("verify", f"checkpoint={left['it-layerwise']}", f"source={folder}", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr


def _read(folder: Path, stem: str) -> Any:
    from proofcard.checkpoint.tensors import read_header

    return read_header(folder / f"{stem}.safetensors")


def test_the_demo_keeps_its_generation_settings_and_its_configuration(demo: Path) -> None:
    from running import ROOT

    source = contents(ROOT / "demo" / "model")
    assert (demo / "generation_config.json").read_bytes() == source["generation_config.json"]
    made, own = (json.loads(text) for text in ((demo / "config.json").read_text(), source["config.json"]))
    assert made.pop("quantization_config") != own.pop("quantization_config")
    assert made == own
    assert len(read_folder(demo)) > 0


def test_an_unknown_model_type_is_one_sentence(source: Path, tmp_path: Path, texts: Path) -> None:
    """A class that the pinned transformers does not have, by `quantize` and by `plan`."""
    change_config(source, model_type="qwen9_moe", architectures=["Qwen9MoeForCausalLM"])
    for program in ("quantize", "plan"):
        said = command(program, "tracking=off", *tiny_recipe(source, texts), cwd=tmp_path)
        assert said.returncode == 2
        assert "does not know model_type 'qwen9_moe'" in said.stderr
        assert "Traceback" not in said.stderr and "goes on" not in said.stderr


def test_a_plan_reads_config_json_as_quantize_does(source: Path, tmp_path: Path, texts: Path) -> None:
    """Before any quantizer is counted, with the weights here and without them."""
    config = json.loads((source / "config.json").read_text())
    alone = tmp_path / "alone"
    alone.mkdir()
    cases = {
        "multi-part model (text_config)": {"model_type": "qwen3_vl_moe", "text_config": config},
        "sets sliding_window=7": config | {"sliding_window": 7, "use_sliding_window": None},
        "num_hidden_layers='3'": config | {"num_hidden_layers": "3"},
    }
    for sentence, said in cases.items():
        (alone / "config.json").write_text(json.dumps(said))
        told = command("plan", "tracking=off", *tiny_recipe(alone, texts), cwd=tmp_path)
        assert told.returncode == 2 and sentence in told.stderr, told.stderr
        assert "Traceback" not in told.stderr
    change_tensors(source, lambda state: state.pop(EXPERT))
    told = command("plan", "tracking=off", *tiny_recipe(source, texts), cwd=tmp_path)
    assert told.returncode == 2 and f"is incomplete: {EXPERT}" in told.stderr
