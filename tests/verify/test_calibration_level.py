"""Level `calibration`: scales recomputed, spot checks, activations, ULP, and percentiles of given texts."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import command
from safetensors.torch import load_file, save_file
from sealing import changed, put

from proofcard import manifest
from proofcard.checkpoint.source import Source
from proofcard.config import VerifyConfig, compose
from proofcard.reproduce import recorded
from proofcard.verify import calibration, percentiles
from proofcard.verify.report import Level

SCALE = "model.layers.1.mlp.down_proj.input_scale"


def words(tiny_llama: Path, folder: Path, *more: str) -> list[str]:
    return [
        f"checkpoint={folder}", f"source={tiny_llama}/source", "levels=[calibration]",
        f"work_dir={tiny_llama}/runs", f"report={tiny_llama}/r.json", *more,
    ]  # fmt: skip


def verify(tiny_llama: Path, *more: str, folder: Path | None = None) -> tuple[int, str]:
    said = command("verify", *words(tiny_llama, folder or tiny_llama / "checkpoint", *more), cwd=tiny_llama)
    return said.returncode, " ".join(said.stdout.split())


def check(tiny_llama: Path, folder: Path, *more: str) -> Level:
    asked = compose(VerifyConfig, "verify", words(tiny_llama, folder, *more))
    return calibration.check(Source(tiny_llama / "source"), asked, recorded.of(manifest.read(folder), folder))


def test_every_scale_follows_from_source_and_samples(tiny_llama: Path) -> None:
    status, said = verify(tiny_llama)
    assert (status, said.split()[-1]) == (0, "verified"), said
    assert "calibration holds 3 layers, 15 scales" in said


def test_a_spot_check_needs_no_layer_after_it_and_none_before_it_with_activations(
    tiny_llama: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    status, said = verify(tiny_llama, "layers=1,2", f"keep_activations={kept}")
    assert status == 0, said
    assert sorted(manifest.read(kept).outputs.files) == ["layer-00001.hidden", "layer-00002.hidden"]
    status, said = verify(tiny_llama, "layers=[2]", f"activations={kept}")
    assert status == 0, said
    assert "1 layers, 5 scales" in said
    assert "hidden states before layers 1, 2 were taken as published" in said
    status, said = verify(tiny_llama, "layers=[3]")
    assert status == 2
    assert "layers names 3, the model has layers 0 to 2" in said


def test_activations_that_are_not_intact_or_of_something_else_are_not_begun_from(
    tiny_llama: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    assert verify(tiny_llama, "layers=[1]", f"keep_activations={kept}")[0] == 0
    file = kept / "layer-00001.hidden"
    intact = file.read_bytes()
    file.write_bytes(bytes([intact[0] ^ 1]) + intact[1:])
    assert "layer-00001.hidden is not what was sealed" in verify(tiny_llama, f"activations={kept}")[1]
    file.write_bytes(intact)
    changed(kept, kept / manifest.NAME, put("inputs", "checkpoint", value="0" * 64))
    status, said = verify(tiny_llama, f"activations={kept}")
    assert status == 2
    assert "does not belong to this checkpoint, its source and its samples" in said


def stepped(folder: Path, steps: int) -> None:
    """Move a scale by steps of BF16 of its amax."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    amax = tensors[SCALE].numpy().reshape(1) * np.float32(2688)
    bits = ((amax.view(np.uint32) + np.uint32(0x8000) >> 16) + steps) << 16
    tensors[SCALE][...] = float(bits.astype(np.uint32).view(np.float32)[0] / np.float32(2688))
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("steps", "platform", "words", "result"),
    [
        (1, False, (), "differs"),
        (1, True, (), "holds"),
        (3, True, (), "differs"),
        (3, True, ("ulp_bound=3",), "holds"),
    ],
)
def test_a_scale_is_exact_on_its_platform_and_within_the_bound_on_another(
    tiny_llama: Path, tmp_path: Path, steps: int, platform: bool, words: tuple[str, ...], result: str
) -> None:
    folder = shutil.copytree(tiny_llama / "checkpoint", tmp_path / "checkpoint")
    stepped(folder, steps)
    changes: list[Any] = [put("platform", "machine", value="aarch64")] if platform else []
    changed(folder, folder / manifest.NAME, *changes)
    level = check(tiny_llama, folder, "layers=[1]", *words)
    assert level.result == result, (level.findings, level.unchecked)
    if result == "holds":
        assert level.notes[0] == f"1 scales differ by at most {steps} ULP, the farthest {SCALE}"
        assert level.notes[1].startswith("the numeric platform differs from the recorded one (machine)")
        return
    [finding] = level.findings
    assert finding.tensor == SCALE
    assert finding.message.startswith(f"it is {steps} ULP from the recalibrated value")
    assert finding.expected is not None
    assert finding.expected.startswith("amax ")


def test_another_source_or_no_samples_is_not_checked(tiny_llama: Path, tmp_path: Path) -> None:
    level = check(tiny_llama, tiny_llama / "checkpoint", f"work_dir={tmp_path}")
    assert level.unchecked[0].startswith("it needs the sample set of key ")
    folder = shutil.copytree(tiny_llama / "checkpoint", tmp_path / "checkpoint")
    other = put("inputs", "source", "files", "config.json", "sha256", value="0" * 64)
    code = put("toolchain", "code", value="0" * 64)
    changed(folder, folder / manifest.NAME, other, code)
    assert check(tiny_llama, folder).unchecked == ["the source is not the recorded one: config.json differs"]


def test_unknown_samples_are_placed_by_percentile_and_called_plausible(
    tiny_llama: Path, texts: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llama / "checkpoint", tmp_path / "checkpoint")
    (folder / manifest.NAME).unlink()
    status, said = verify(tiny_llama, folder=folder)
    assert status == 2
    assert "it was never sealed, so its samples are unknown: texts=FILE" in said
    status, said = verify(tiny_llama, f"texts={texts}", folder=folder)
    assert status == 2
    assert "not proven, samples unknown: plausible by percentile against 24 given texts" in said
    assert "15 of 15 scales placed" in said


@pytest.mark.parametrize(
    ("factor", "said"), [(0.2, "nearly every text would be clipped"), (40, "more than 16")]
)
def test_what_no_such_text_gives_is_implausible(
    tiny_llama: Path, texts: Path, tmp_path: Path, factor: float, said: str
) -> None:
    folder = shutil.copytree(tiny_llama / "checkpoint", tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    tensors[SCALE] *= factor
    save_file(tensors, folder / "model.safetensors")
    level = percentiles.check(folder, Source(tiny_llama / "source"), texts)
    assert [one.tensor for one in level.findings] == [SCALE]
    assert said in level.findings[0].message


def test_the_scales_of_other_makers_stand_for_the_same_amaxes(tiny_llama: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_llama / "checkpoint" / "model.safetensors")
    from proofcard.checkpoint.tensors import read_folder

    ours = percentiles._stored(read_folder(tiny_llama / "checkpoint"))
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith("input_scale")}
    theirs = {name: tensor for name, tensor in tensors.items() if name not in scales}
    for name, tensor in scales.items():
        theirs[name.replace("input_scale", "input_global_scale")] = 1 / tensor.reshape(1)
    save_file(theirs, tmp_path / "model.safetensors")
    other = percentiles._stored(read_folder(tmp_path))
    for name, amax in ours.items():
        assert other[name.replace("input_scale", "input_global_scale")] == pytest.approx(amax, rel=1e-5)
