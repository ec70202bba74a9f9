"""A chain for real: what it makes, reuses and leaves out, how it fails, is interrupted and resumes."""

import json
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import forking
import pytest
from running import command, run, start, surroundings, tiny, tiny_recipe

from proofcard.digest import readable_json
from proofcard.run import request

LIGHT = "skip=[serve,benchmark,evaluate,audit,sign]"
PLANS = Path(__file__).parents[1] / "audit" / "minimax_m2_7_nvfp4_as_run.plan.json"


def chain(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Run to its end, forked as every stage that it starts."""
    return run(["proofcard", "run", *words], folder, forking.by_name(surroundings()))


def states(folder: Path) -> dict[str, str]:
    (path,) = (folder / "runs" / "chains").glob("*.json")
    return {stage["name"]: stage["state"] for stage in json.loads(path.read_text())["stages"]}


def planned(folder: Path, words: list[str]) -> None:
    """A plan of this configuration as an earlier command has left it: planning takes seconds."""
    recipe = request.read(words).recipe
    values: dict[str, Any] = json.loads(PLANS.read_text())
    values |= {"config": recipe.identity(), "recipe": recipe.recipe.model_dump()}
    values["work"]["memory"] = dict.fromkeys(values["work"]["memory"], 10**6)
    (folder / "runs" / "plans").mkdir(parents=True)
    (folder / "runs" / "plans" / f"{recipe.recipe.name}.json").write_text(readable_json(values))


@pytest.fixture
def copied(demo: Path, tmp_path: Path) -> Path:
    """The demo's checkpoint and samples, to write a card into."""
    for name in ("checkpoint", "runs"):
        shutil.copytree(demo.parent / name, tmp_path / name)
    return tmp_path


def test_what_is_sealed_is_reused_and_the_rest_is_made_once(copied: Path) -> None:
    words = ["recipe=demo", "output_dir=checkpoint", "tracking=off", LIGHT]
    planned(copied, words)
    status, out, errors = chain(words, copied)
    assert status == 0, errors
    assert states(copied) == {
        "plan": "reused", "fetch": "left out", "quantize": "reused", "verify": "made", "analyse": "made",
        "serve": "left out", "benchmark": "left out", "evaluate": "left out", "audit": "left out",
        "card": "made", "sign": "left out",
    }  # fmt: skip
    assert "[1/3] proofcard verify checkpoint=checkpoint source=" in errors
    card, page, verify = out.splitlines()[-3:]
    assert card.split() == ["card", "checkpoint/README.md"]
    assert page.split(maxsplit=2)[:2] == ["MLflow", "run"]
    assert verify.startswith("verify it    proofcard verify checkpoint=checkpoint source=")
    status, out, errors = chain([*words, "--json"], copied)
    assert status == 0, errors
    assert set(states(copied).values()) == {"reused", "left out"}
    document = json.loads(out)
    assert document["schema"] == "proofcard/run/1"
    assert document["again"] == f"proofcard run recipe=demo output_dir=checkpoint tracking=off '{LIGHT}'"

    shard = copied / "checkpoint" / "model-00001-of-00001.safetensors"
    shard = shard if shard.exists() else next((copied / "checkpoint").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    status, _, errors = chain(words, copied)
    assert status == 1
    assert "differs from what was sealed" in errors.splitlines()[-1]


def test_a_stage_that_fails_or_is_stopped_leaves_the_command_that_resumes(tmp_path: Path) -> None:
    tiny(tmp_path / "model", "llama")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "w1 w2 w3"}\n')
    words = [*tiny_recipe(Path("model"), Path("texts.jsonl")), "tracking=off"]
    words += ["quantization=nvfp4_mlp_only", LIGHT]
    with pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path)
        planned(tmp_path, words)
    status, out, errors = chain(words, tmp_path)
    last = errors.splitlines()[-1]
    assert (status, out) == (1, "")
    failed = "run: quantize failed with exit status 1 (its message is above); finished: plan; to resume: "
    assert last.startswith(failed)
    assert last.endswith(f"proofcard run {' '.join(words[:-1])} '{LIGHT}'")
    assert states(tmp_path)["quantize"] == "failed"
    assert states(tmp_path)["verify"] == "not reached"

    texts.write_text('{"text": "w1 w2 w3 w4 w5"}\n' * 12)
    running = start(["proofcard", "run", *words], tmp_path, forking.by_name(surroundings()))
    assert running.stderr is not None
    lines = []
    for line in running.stderr:
        lines.append(line)
        if re.match(r"\[1/\d\] proofcard quantize", line):
            break
    time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 143, rest
    stopped = "interrupted: quantize was stopped; finished: plan; to resume: proofcard run "
    assert rest.splitlines()[-1].startswith(stopped)


def test_what_this_machine_cannot_do_is_refused_before_any_stage(tmp_path: Path) -> None:
    words = ["recipe=minimax_m2_7_nvfp4", f"model.revision={'0' * 40}", "tracking=off"]
    words += ["calibration=text", "calibration.datasets.text.path=x.jsonl", "hardware=cpu"]
    planned(tmp_path, words)
    said = command("run", *words, cwd=tmp_path)
    last = said.stderr.splitlines()[-1]
    assert said.returncode == 2
    assert last.startswith("run: serve, benchmark cannot run on this machine: ")
    assert "serving=sglang_recommended needs an NVIDIA GPU, and none is visible" in last
    without = shlex.join(["proofcard", "run", *words, "skip=[serve,benchmark]"])
    assert last.endswith(f"; to leave out what cannot run here: {without}")
    assert not (tmp_path / "runs" / "chains").exists()


def test_what_cannot_run_as_several_processes_is_refused_before_any_stage(tmp_path: Path) -> None:
    words = ["recipe=demo", "kv_cache=fp8_affine", "processes=2", "tracking=off", LIGHT]
    planned(tmp_path, words)
    said = command("run", *words, cwd=tmp_path)
    last = said.stderr.splitlines()[-1]
    assert said.returncode == 2
    assert last.startswith(
        "run: quantize cannot run on this machine: kv_cache=fp8_affine runs as one process"
    )
    assert "skip" not in last
