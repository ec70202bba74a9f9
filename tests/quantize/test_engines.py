"""engine=layerwise writes the bytes of engine=modelopt: every architecture, coverage and KV format."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quantize.part_of_demo import part_of_demo
from running import ROOT, python, tiny, tiny_recipe

from proofcard import manifest
from proofcard.checkpoint.tensors import read_folder

COVERAGES = ("natural", "all_experts")
KV_CACHES = ("fp8", "fp8_affine", "none")
OWN = {
    "minimax_m2": [],
    "mixtral": [],
    "qwen3_moe": [],
    "deepseek_v2": [],
    "llama": ["quantization=nvfp4_mlp_only"],
}
LAYERS = {"mixtral": 2, "qwen3_moe": 2, "deepseek_v2": 3, "llama": 2}
UNEVEN = "calibration.batch_size=3"  # batches of 3, 3 and 2 samples
WAYS = {
    "minimax_m2": {
        "sdpa": "model.attn_implementation=sdpa,kv_cache=fp8_affine",
        "cast_float32": "kv_cache=fp8_cast,quantization.dequantize_to=float32",
        "as_run": "calibration.pad_to=set,calibration.attention_mask=false,kv_cache=fp8_affine,"
        "quantization.dequantize_to=float32",
    },
    "mixtral": {
        "sdpa_files": "model.attn_implementation=sdpa,hardware.activation_memory_gib=0,kv_cache=fp8_affine,"
        "coverage=natural",
        "right": "calibration.padding_side=right,kv_cache=fp8_affine",
        "cold": "coverage=natural,model.path={cold}",
        "cold_forced": "coverage=all_experts,model.path={cold}",
        "hybrid": "coverage=natural,kv_cache=fp8_affine,model.path={hybrid}",
    },
    "qwen3_moe": {"unmasked": "calibration.attention_mask=false,kv_cache=fp8_affine"},
    "deepseek_v2": {"right": "calibration.padding_side=right,coverage=natural"},
    "llama": {"sdpa_right": "model.attn_implementation=sdpa,calibration.padding_side=right"},
}
FAULTS = {  # where each must show
    "last_batch_missing": "natural-fp8_affine",
    "batches_backwards": "natural-fp8_affine",
    "amax_a_step_up": "all_experts-none",
    "bias_a_step_up": "natural-fp8_affine",
}

Engines = Callable[[str], Path]


def pairs(architecture: str) -> list[tuple[str, str]]:
    """Coverages and KV formats: both coverages with one format, and each further format with one of them.

    Which one changes from architecture to architecture: every pair is one of some.
    """
    turn = list(OWN).index(architecture)
    first, *others = KV_CACHES
    further = [(COVERAGES[(turn + place) % 2], kv_cache) for place, kv_cache in enumerate(others, 1)]
    return [(coverage, first) for coverage in COVERAGES] + further


def combinations(architecture: str) -> dict[str, str]:
    said = {f"{c}-{kv}": f"coverage={c},kv_cache={kv}" for c, kv in pairs(architecture)}
    if architecture == "mixtral":
        said |= {f"{fault}@{where}": said[where] for fault, where in FAULTS.items()}
    return said | WAYS.get(architecture, {})


def both_engines(folder: Path, said: dict[str, str], *shared: str) -> Path:
    """Run the combinations in one process, into `folder`."""
    wanted = [f"{name}={overrides}" for name, overrides in said.items()]
    program = Path(__file__).with_name("both_engines.py")
    done = python(program, str(folder), *wanted, "--", *shared, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Engines:
    """Everything that both engines make of an architecture, by its name; made when first asked for."""
    made: dict[str, Path] = {}

    def of(architecture: str) -> Path:
        if architecture in made:
            return made[architecture]
        folder = made[architecture] = tmp_path_factory.mktemp(architecture)  # tried once, also when it fails
        said = combinations(architecture)
        if architecture == "minimax_m2":
            source = part_of_demo(folder / "source")
            names = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "llama_nemotron")
            few = [f"calibration.datasets.{n}.samples=1" for n in (*names, "nemotron_post_training_v2")]
            own = [f"model.path={source}", *few]
        else:
            source = tiny(folder / "source", architecture, num_hidden_layers=LAYERS[architecture])
            own = tiny_recipe(source, texts)
        if architecture == "mixtral":
            cold = two_cold_experts(folder / "cold")
            hybrid = tiny(folder / "hybrid", "qwen3_next")  # its first layer has no attention
            said = {name: overrides.format(cold=cold, hybrid=hybrid) for name, overrides in said.items()}
        return both_engines(folder, said, *own, UNEVEN, "hardware=one_thread", *OWN[architecture])

    return of


def two_cold_experts(folder: Path) -> Path:
    """A Mixtral whose router sends every token to expert 0 or 1, none to 2 and 3."""
    from safetensors.torch import load_file, save_file

    tiny(folder, "mixtral", num_hidden_layers=LAYERS["mixtral"], num_experts_per_tok=1)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("block_sparse_moe.gate.weight")]:
        weights[name][1], weights[name][2:] = -weights[name][0], 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def differences(ours: Path, theirs: Path) -> list[str]:
    """What tells two checkpoints apart beyond the engine: files, and the tensors in them.

    The tables `calibration_*` are engine=layerwise's alone; of the manifests engine, key and statistics may
    differ, and statistics only by what ModelOpt does not count.
    """
    files = [{path.name: path for path in folder.iterdir()} for folder in (ours, theirs)]
    left_out = {name for name in files[0] if name.startswith("calibration_")} | {manifest.NAME}
    one, other = ({n: p.read_bytes() for n, p in found.items() if n not in left_out} for found in files)
    found = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    if any(name.endswith(".safetensors") for name in found):
        tensors = [
            {name: (t.dtype, t.shape, t.raw().tobytes()) for name, t in read_folder(folder).items()}
            for folder in (ours, theirs)
        ]
        names = tensors[0].keys() | tensors[1].keys()
        found += sorted(name for name in names if tensors[0].get(name) != tensors[1].get(name))
    bodies = [manifest.read(folder).values() for folder in (ours, theirs)]
    if not bodies[0]["statistics"].items() >= bodies[1]["statistics"].items():
        found.append("statistics")
    if not found and comparable(bodies[0], left_out) != comparable(bodies[1], left_out):
        found.append(manifest.NAME)
    return found


def comparable(body: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    """A manifest without its key, its statistics, the engine's name and code, and the files left out."""
    files = {name: said for name, said in body["outputs"]["files"].items() if name not in left_out}
    config = {name: said for name, said in body["config"].items() if name != "engine"}
    rest = {name: said for name, said in body.items() if name not in ("key", "seal", "statistics")}
    toolchain = {name: said for name, said in body["toolchain"].items() if name != "code"}
    return rest | {
        "config": config, "toolchain": toolchain, "outputs": body["outputs"] | {"files": files}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "coverage", "kv_cache"), [(name, *pair) for name in OWN for pair in pairs(name)]
)
def test_the_bytes_are_modelopt_s(engines: Engines, architecture: str, coverage: str, kv_cache: str) -> None:
    made = engines(architecture) / f"{coverage}-{kv_cache}-layerwise"
    theirs = engines(architecture) / f"{coverage}-{kv_cache}-modelopt"
    assert differences(made, theirs) == []
    kinds = {name.rsplit(".", 1)[1] for name in read_folder(made)}
    scales = {"fp8": {"k_scale", "v_scale"}, "fp8_affine": {"k_scale", "v_scale", "k_bias", "v_bias"}}
    assert kinds & scales["fp8_affine"] == scales.get(kv_cache, set())
    assert {"weight", "weight_scale", "weight_scale_2", "input_scale"} <= kinds


@pytest.mark.parametrize(("architecture", "way"), [(a, way) for a in OWN for way in WAYS[a]])
def test_other_ways_give_modelopt_s_bytes_too(engines: Engines, architecture: str, way: str) -> None:
    folder = engines(architecture)
    assert differences(folder / f"{way}-layerwise", folder / f"{way}-modelopt") == []


@pytest.mark.parametrize(("fault", "where"), FAULTS.items())
def test_a_fault_would_be_seen(engines: Engines, fault: str, where: str) -> None:
    folder = engines("mixtral")
    found = differences(folder / f"{fault}@{where}-layerwise", folder / f"{where}-modelopt")
    assert "model.safetensors" in found
    last = f"model.layers.{LAYERS['mixtral'] - 1}"
    if fault == "amax_a_step_up":
        assert found[1:] == [
            f"model.layers.{LAYERS['mixtral'] - 1}.block_sparse_moe.experts.3.w2.input_scale"
        ]
    if fault == "bias_a_step_up":
        assert found[1:] == [f"{last}.self_attn.v_proj.v_bias"]


@pytest.mark.parametrize("architecture", [name for name in OWN if name != "llama"])
def test_what_the_engines_agree_on_tells_experts_and_ways_apart(engines: Engines, architecture: str) -> None:
    """Otherwise an expert's scale could be another's, or a token be left out, and nobody would see it."""
    folder = engines(architecture)
    forced = {n: t.raw().tobytes() for n, t in read_folder(folder / "all_experts-fp8-layerwise").items()}
    natural = {n: t.raw().tobytes() for n, t in read_folder(folder / "natural-fp8-layerwise").items()}
    last = [name for name in forced if re.search(r"experts\.\d+\.(w2|down_proj)\.input_scale$", name)]
    assert len({forced[name] for name in last}) > 0.75 * len(last)
    assert any(forced[name] != natural[name] for name in last)
    assert [name for name in forced if forced[name] != natural[name] and "input_scale" not in name] == []
    plain = [value for name, value in forced.items() if "norm" in name or name.endswith("bias")]
    assert len(set(plain)) == len(plain)


def rows_seen(source: Path, folder: Path) -> dict[str, int]:
    """How many tokens the router sends to each expert, from the model itself and the samples of a run."""
    import torch

    from proofcard.calibration.batches import read_samples
    from proofcard.checkpoint.source import Source
    from proofcard.config import QuantizeConfig, compose
    from proofcard.quantize.model import load

    recipe = "demo" if (source / "modeling_minimax_m2.py").exists() else "local"
    model = compose(QuantizeConfig, "config", [f"recipe={recipe}", f"model.path={source}"]).model
    built = load(Source(source), model, "cpu")
    seen: dict[str, int] = {}
    for name, module in built.named_modules():
        if re.search(r"\.experts\.\d+$", name):
            seen[name] = 0
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.update({name: seen[name] + len(args[0])})
            )
    samples, *_ = (folder / "runs" / "samples").glob("[!.]*")  # one a type of model, the same tokens in each
    with torch.no_grad():
        for ids in read_samples(samples):
            built(torch.from_numpy(ids).long()[None])
    return seen


@pytest.mark.parametrize("architecture", [name for name in OWN if name != "llama"])
def test_the_router_reaches_every_expert(engines: Engines, architecture: str) -> None:
    folder = engines(architecture)
    seen = rows_seen(folder / "source", folder)
    assert len(seen) >= 8
    assert min(seen.values()) > 0, seen


def test_cold_experts_are_really_cold(engines: Engines) -> None:
    folder = engines("mixtral")
    seen = rows_seen(folder / "cold", folder)
    assert {name for name, rows in seen.items() if rows == 0} == {n for n in seen if n[-1] in "23"}


def test_a_model_without_experts_has_nothing_to_force(engines: Engines) -> None:
    folder = engines("llama")
    one, other = (folder / f"{c}-{KV_CACHES[0]}-layerwise" / "model.safetensors" for c in COVERAGES)
    assert one.read_bytes() == other.read_bytes()
    names = read_folder(folder / "natural-fp8-layerwise").keys()
    assert "model.layers.0.mlp.down_proj.bias" in names
    assert "lm_head.weight" not in names  # tied to the embedding


def test_what_modelopt_cannot_do_is_refused_by_both_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, texts: Path
) -> None:
    sentences = {
        "olmoe": "ModelOpt 0.43.0 cannot export OlmoeForCausalLM: it expects w1, w2, w3 in every expert of "
        "OlmoeSparseMoeBlock, which has no such linear",
        "qwen2_moe": "ModelOpt 0.43.0 cannot quantize Qwen2MoeForCausalLM: "  # with eager attention alone
        "Actual method must have closure for freevars",
    }
    said = {name: f"model.path={tiny(tmp_path / name, name)}" for name in sentences}
    made = both_engines(tmp_path / "made", said, *tiny_recipe(tmp_path / "olmoe", texts))
    names = [f"{name}-{engine}" for name in sentences for engine in ("layerwise", "modelopt")]
    assert {name: (made / f"{name}.txt").read_text() for name in names} == {
        name: sentences[name.split("-")[0]] for name in names
    }
    left = {path.name for path in made.iterdir() if not path.name.endswith(".lock")}
    assert left - {"runs"} == {f"{name}.txt" for name in names}
    assert not (made / "runs" / "samples").exists()
