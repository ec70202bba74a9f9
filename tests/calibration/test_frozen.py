"""A sealed sample set used again, without `datasets` and without what it was drawn from."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from running import add_tokenizer, command, contents, quantize, tiny_recipe

from proofcard import manifest
from proofcard.calibration import sample_set as samples_stage
from proofcard.config import QuantizeConfig, compose
from proofcard.digest import sha256_file
from proofcard.errors import Stop, Usage
from proofcard.manifest import key_of

FEW = [
    f"calibration.datasets.{name}.samples=2"
    for name in ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2")
] + ["calibration.datasets.llama_nemotron.samples=2"]


def config(*overrides: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", [*FEW, *overrides])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    samples_stage.make(config(), samples_stage.describe(config()), folder)
    return folder


@pytest.fixture
def copy(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def test_the_checkpoint_of_a_frozen_set_is_that_of_the_run_that_drew_it(
    tiny_llama: Path, texts: Path, tmp_path: Path
) -> None:
    key = manifest.read(tiny_llama / "checkpoint").inputs["samples"]["key"]
    kept = tiny_llama / "runs" / "samples" / f"local-{key[:12]}"
    published = Path(shutil.copytree(kept, tmp_path / "published"))
    words = [*tiny_recipe(tiny_llama / "source", texts), "quantization=nvfp4_mlp_only"]
    words += ["calibration.sequence_length=16", "hardware=one_thread"]
    words += ["calibration.datasets.text.path=/gone", f"calibration.frozen={published}"]
    pin = f"calibration.frozen_sha256={sha256_file(published / 'manifest.json')}"
    again = quantize(tmp_path / "again", *words, pin)
    assert contents(again) == contents(tiny_llama / "checkpoint")
    (copied,) = (tmp_path / "again" / "runs" / "samples").glob("local-*")
    assert copied.name == kept.name
    assert contents(copied) == contents(published)


def test_its_key_is_the_one_it_was_sealed_under_and_batches_stay_free(drawn: Path) -> None:
    key = key_of("samples", **samples_stage.describe(config()))
    frozen = f"calibration.frozen={drawn}"
    assert key_of("samples", **samples_stage.describe(config(frozen))) == key
    assert key_of("samples", **samples_stage.describe(config(frozen, "calibration.batch_size=3"))) == key
    assert config(frozen, "calibration.frozen_sha256=" + 64 * "0").identity() == config().identity()


def test_neither_datasets_nor_transformers_is_needed(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("datasets", "transformers", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    asked = config(f"calibration.frozen={drawn}")
    body = samples_stage.make(asked, samples_stage.describe(asked), tmp_path / "here")
    assert body.statistics["samples"] == 10
    assert contents(tmp_path / "here") == contents(drawn)


def test_an_altered_set_is_refused(copy: Path) -> None:
    tokens = copy / "tokens.safetensors"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"\1")
    with pytest.raises(Stop, match=r"copy: tokens\.safetensors differs from what was sealed"):
        samples_stage.describe(config(f"calibration.frozen={copy}"))


def test_tokens_that_are_not_the_index_s_are_refused_though_sealed(copy: Path) -> None:
    body = json.loads((copy / "manifest.json").read_text())
    lines = (copy / "samples.jsonl").read_text().splitlines()
    swapped = "\n".join([lines[1], lines[0], *lines[2:]]) + "\n"
    (copy / "samples.jsonl").write_text(swapped)
    del body["seal"]
    body["outputs"]["files"]["samples.jsonl"]["sha256"] = hashlib.sha256(swapped.encode()).hexdigest()
    from proofcard import manifest

    (copy / "manifest.json").write_text(manifest.seal(body))
    with pytest.raises(Stop, match="its tokens do not match its index"):
        samples_stage.describe(config(f"calibration.frozen={copy}"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["calibration.frozen_sha256=" + 64 * "0"], "is not the pinned set: its manifest.json has "),
        (["calibration.sequence_length=64"], "drawn with sequence_length=128, but the recipe has 64: set "),
        (["calibration.sampling.seed=1"], "drawn with sampling.seed=42, but the recipe has 1: set "),
    ],
)
def test_another_set_than_the_recipe_s_is_refused(drawn: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(Stop, match=sentence):
        samples_stage.describe(config(f"calibration.frozen={drawn}", *overrides))


def test_another_tokenizer_is_refused(drawn: Path, tmp_path: Path) -> None:
    add_tokenizer(tmp_path)
    with pytest.raises(Stop, match="was not tokenized with this model"):
        samples_stage.describe(config(f"calibration.frozen={drawn}", f"model.path={tmp_path}"))


def test_a_pin_without_a_set_is_a_mistake() -> None:
    with pytest.raises(Usage, match="frozen_sha256 is only allowed with calibration"):
        config("calibration.frozen_sha256=" + 64 * "0")


def test_a_missing_set_ends_before_any_work(tmp_path: Path) -> None:
    said = command("quantize", "tracking=off", "calibration.frozen=/nowhere", cwd=tmp_path)
    assert said.returncode == 2
    assert (
        said.stderr.splitlines()[-1] == "quantize: calibration.frozen=/nowhere does not exist: check the path"
    )
