"""Every dialect is proven, and 1,000 seeded tamperings of each are caught or belong to what no level proves.

`python tests/verify/test_dialects.py 1000` runs them all and prints what passed; here a small part runs.
"""

import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from verify.dialects import DIALECTS, codes, make
from verify.making import Tensors, edit_json, load, make_source, save

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.config.schema import VerifyConfig
from proofcard.verify import run

LEVELS = ("structure", "weights")
CALIBRATED = ("input_scale", "input_global_scale", "k_scale", "v_scale")


def verified(checkpoint: Path, source: Path, scales: str = "derived") -> tuple[int, str, dict]:
    report = checkpoint.parent / "report.json"
    screen = io.StringIO()
    config = VerifyConfig.model_validate(
        {"checkpoint": checkpoint, "source": source, "levels": LEVELS, "report": report, "scales": scales}
    )
    status = run(config, Console(file=screen, width=100))
    return status, screen.getvalue(), json.loads(report.read_text())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "model", "mixtral", fp8=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Callable[[str], Path]:
    known: dict[str, Path] = {}

    def get(dialect: str) -> Path:
        if dialect not in known:
            known[dialect] = make(tmp_path_factory.mktemp("made") / "checkpoint", source, dialect)
        return known[dialect]

    return get


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_proven_as_far_as_it_can_be(
    made: Callable[[str], Path], source: Path, dialect: str
) -> None:
    searched = DIALECTS[dialect].searched
    status, screen, report = verified(made(dialect), source)
    assert status == (2 if searched else 0), screen
    if searched:
        assert "searched scales" in report["levels"]["weights"]["unchecked"]["listed"][0]
        status, screen, report = verified(made(dialect), source, "given")
        assert status == 0 and "\nverified, scales as given" in screen, screen
        said = report["levels"]["weights"]["scales"]
        assert all(each["differ"] and each["smallest"] >= 1 for each in said)
    assert report["levels"]["structure"]["result"] == "holds"


def test_a_few_odd_blocks_among_regular_ones_are_damage(
    made: Callable[[str], Path], source: Path, tmp_path: Path
) -> None:
    """Their codes are the right ones for the changed scales, and yet it is no search."""
    tensors = load(made("modelopt W4A16"))
    odd_blocks(tensors, source, np.random.default_rng(0))
    folder = written(tmp_path / "odd", made("modelopt W4A16"), tensors)
    for scales in ("derived", "given"):
        status, screen, report = verified(folder, source, scales)
        assert status == 1, screen
        listed = report["levels"]["weights"]["differences"]["listed"]
        assert {each["tensor"].rpartition(".")[2] for each in listed} == {"weight", "weight_scale"}


def test_renamed_experts_are_listed(made: Callable[[str], Path], source: Path) -> None:
    _, _, report = verified(made("llm-compressor"), source)
    notes = report["levels"]["weights"]["notes"]
    assert any("gate_proj is the source's" in note and note.endswith("w1 (6)") for note in notes), notes


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_maker_is_named_where_nothing_says_it(
    made: Callable[[str], Path], source: Path, tmp_path: Path, dialect: str
) -> None:
    folder = written(tmp_path / "checkpoint", made(dialect), load(made(dialect)))
    for name in ("hf_quant_config.json", "quantization_config.json"):
        (folder / name).unlink(missing_ok=True)
    edit_json(folder / "config.json", lambda c: c.pop("quantization_config"))
    config = VerifyConfig.model_validate(
        {"checkpoint": folder, "source": source, "levels": ("weights",), "report": tmp_path / "report.json",
         "identify": True}
    )  # fmt: skip
    screen = io.StringIO()
    assert run(config, Console(file=screen, width=200)) == (2 if DIALECTS[dialect].searched else 0)
    said = json.loads((tmp_path / "report.json").read_text())["maker"]
    maker = {"llm-compressor": "llm-compressor", "auto-round": "auto-round"}.get(
        dialect.split(" mixed")[0], "ModelOpt"
    )
    assert said["program"].startswith(maker), said
    assert f"made by: {said['program']}" in screen.getvalue()


@pytest.mark.parametrize("norm", ["folded", "folded and harmed"])
def test_factors_folded_into_weights_and_norms_are_recognised(
    source: Path, tmp_path: Path, norm: str
) -> None:
    """As SmoothQuant does it: not proven, not damage; but a norm that holds something else is."""
    random = np.random.default_rng(4)
    tensors = load(source)
    factors = {layer: np.exp2(random.uniform(-1.5, 1.5, 64)).astype(np.float32) for layer in range(2)}
    for name, (dtype, bits) in list(tensors.items()):
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            tensors[name] = (dtype, nvfp4.f32_to_bf16(nvfp4.bf16_to_f32(bits) * factors[layer]))
        elif name.endswith("input_layernorm.weight"):
            tensors[name] = (dtype, nvfp4.f32_to_bf16(nvfp4.bf16_to_f32(bits) / factors[layer]))
    smoothed = tmp_path / "smoothed"
    smoothed.mkdir()
    save(smoothed, tensors)
    (smoothed / "config.json").write_bytes((source / "config.json").read_bytes())
    checkpoint = make(tmp_path / "made" / "checkpoint", smoothed, "llm-compressor")
    if norm != "folded":
        tensors = load(checkpoint)
        bits = tensors["model.layers.0.input_layernorm.weight"][1].copy()
        bits[3] ^= 0x0100
        tensors["model.layers.0.input_layernorm.weight"] = ("BF16", bits)
        checkpoint = written(tmp_path / "harmed" / "checkpoint", checkpoint, tensors)
    status, screen, report = verified(checkpoint, source)
    assert status == (2 if norm == "folded" else 1), screen
    assert any("folded factors: 6 of" in said for said in report["levels"]["weights"]["unchecked"]["listed"])


# --- tamperings --------------------------------------------------------------------------------------


def flipped_bit(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice(sorted(tensors)))
    dtype, values = tensors[name]
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).copy()
    raw[random.integers(raw.size)] ^= np.uint8(1 << random.integers(8))
    tensors[name] = (dtype, raw.view(values.dtype).reshape(values.shape))
    return name


def changed_byte(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(
        random.choice(
            [n for n in sorted(tensors) if n.endswith(("weight_scale", "weight_packed", ".weight"))]
        )
    )
    dtype, values = tensors[name]
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).copy()
    at = random.integers(raw.size, size=random.integers(1, 4))
    raw[at] ^= random.integers(1, 256, size=at.size).astype(np.uint8)
    tensors[name] = (dtype, raw.view(values.dtype).reshape(values.shape))
    return name


def hole(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice([n for n in sorted(tensors) if tensors[n][1].size > 64]))
    dtype, values = tensors[name]
    flat = np.ascontiguousarray(values).reshape(-1).copy()
    first = int(random.integers(flat.size - 32))
    flat[first : first + 32] = 0
    tensors[name] = (dtype, flat.reshape(values.shape))
    return name if not np.array_equal(flat, values.reshape(-1)) else ""


def exchanged(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice(sorted(tensors)))
    like = [n for n in sorted(tensors) if n != name and tensors[n][0] == tensors[name][0]
            and np.shape(tensors[n][1]) == np.shape(tensors[name][1])]  # fmt: skip
    if not like:
        return ""
    other = str(random.choice(like))
    if np.array_equal(tensors[name][1], tensors[other][1]):
        return ""
    tensors[name], tensors[other] = tensors[other], tensors[name]
    return name


def dropped(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice(sorted(tensors)))
    del tensors[name]
    return name


def renamed(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice(sorted(tensors)))
    tensors[name + str(random.choice(["_", "x", ".y"]))] = tensors.pop(name)
    return name


def reshaped(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    name = str(random.choice([n for n in sorted(tensors) if np.ndim(tensors[n][1]) == 2]))
    dtype, values = tensors[name]
    tensors[name] = (dtype, values.reshape(values.shape[::-1]))
    return name if values.shape[0] != values.shape[1] else ""


def scaled(tensors: Tensors, _: Path, random: np.random.Generator) -> str:
    second = [n for n in sorted(tensors) if n.endswith(("weight_scale_2", "weight_global_scale"))]
    name = str(random.choice(second))
    dtype, value = tensors[name]
    tensors[name] = (
        dtype,
        (value * np.float32(random.choice([0.5, 2.0, 1.01, 1.0000002]))).astype(np.float32),
    )
    return name


def odd_blocks(tensors: Tensors, folder: Path, random: np.random.Generator) -> str:
    """Three block scales of a linear changed, and its codes made anew for them."""
    source = Source(folder)
    packed = [n for n in sorted(tensors) if tensors[n][0] == "U8"]
    name = str(random.choice(packed))
    stem, _, leaf = name.rpartition(".")
    dialect = next((d for d in DIALECTS.values() if d.rule.layout.leaves[0] == leaf), DIALECTS["auto-round"])
    second = "weight_global_scale" if leaf == "weight_packed" else "weight_scale_2"
    back = {ours: theirs for theirs, ours in {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}.items()}
    home, _, last = stem.rpartition(".")
    module = stem if f"{stem}.weight" in source.tensors else f"{home}.{back[last]}"
    bits = source.bits(f"{module}.weight")
    scales = tensors[f"{stem}.weight_scale"][1].copy()
    block = bits.shape[1] // scales.shape[1]
    ordinary = np.argwhere((scales > 0x20) & (scales < 0x70))
    if len(ordinary) < 3:
        return ""
    for row, column in ordinary[random.choice(len(ordinary), 3, replace=False)]:
        scales[row, column] += np.uint8(random.choice([1, 5]))
    changed = codes(bits, scales, tensors[f"{stem}.{second}"][1].reshape(()), dialect.rule, block)
    tensors[f"{stem}.weight_scale"] = ("F8_E4M3", scales)
    tensors[name] = ("U8", changed)
    return name


TAMPERINGS = (flipped_bit, changed_byte, hole, exchanged, dropped, renamed, reshaped, scaled, odd_blocks)
IN_CI = len(TAMPERINGS)  # of each dialect: every way once


def written(folder: Path, like: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True)
    for path in like.iterdir():
        if path.suffix != ".safetensors" and "index" not in path.name:
            (folder / path.name).write_bytes(path.read_bytes())
    save(folder, tensors)
    return folder


def campaign(
    folder: Path, checkpoint: Path, source: Path, dialect: str, count: int, first: int = 0
) -> Counter[str]:
    """Outcomes by class. What passes must be a scale that calibration decides; raises AssertionError else."""
    searched = DIALECTS[dialect].searched
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + count):
        random = np.random.default_rng([seed, sum(map(ord, dialect))])
        tensors = load(checkpoint)
        tamper = TAMPERINGS[seed % len(TAMPERINGS)]
        name = tamper(tensors, source, random)
        if not name:
            outcomes["nothing changed"] += 1
            continue
        harmed = written(folder / f"{seed}" / "checkpoint", checkpoint, tensors)
        status, screen, _ = verified(harmed, source, "given" if searched else "derived")
        if status:
            outcomes["caught"] += 1
        elif name.endswith(CALIBRATED):
            outcomes["calibrated: outside of what these levels prove"] += 1
        elif searched and (tamper is odd_blocks or name.endswith("weight_scale")):
            outcomes["other scales with their right codes: scales=given takes them as they are"] += 1
        else:
            raise AssertionError(f"{dialect}, seed {seed}: {tamper.__name__} of {name} passed:\n{screen}")
    return outcomes


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tamperings_are_caught(
    made: Callable[[str], Path], source: Path, tmp_path: Path, dialect: str
) -> None:
    outcomes = campaign(tmp_path, made(dialect), source, dialect, IN_CI)
    assert outcomes["caught"] >= IN_CI / 2, outcomes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        origin = make_source(Path(place) / "source", "mixtral", fp8=False)
        for each in DIALECTS:
            checkpoint = make(Path(place) / each.replace(" ", "_") / "checkpoint", origin, each)
            with tempfile.TemporaryDirectory() as room:
                print(
                    f"{each}: {dict(campaign(Path(room), checkpoint, origin, each, int(sys.argv[1])))}",
                    flush=True,
                )
