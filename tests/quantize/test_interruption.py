"""Kill, interrupt, changed code, full disk: nothing half-written, nothing lost, one true sentence.

engine=modelopt starts over; engine=layerwise goes on after the last complete layer. `test_resume.py` ends it
at every moment; here the real command is ended at a few. One that an interrupt reaches early is a process of
its own, which may hear it while it imports; the others are forked. All have a quarter of the demo's samples.
"""

import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from disks import needs_root, small_disk
from forking import Forked
from running import PROOFCARD, ROOT, command, contents, forked, quantize, start
from several import SMALL

TRACKED = [word for word in SMALL if word != "tracking=off"]


def begun(cwd: Path, *overrides: str) -> Forked:
    return forked("quantize", "output_dir=checkpoint", *overrides, cwd=cwd)


def wait_for_work(process: subprocess.Popen[str] | Forked, cwd: Path) -> None:
    """Until the checkpoint's unfinished folder exists: the model is being loaded or calibrated."""
    deadline = time.monotonic() + 120
    while not (cwd / ".checkpoint.partial").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_a_layer(process: subprocess.Popen[str] | Forked, cwd: Path) -> None:
    """Until the first layer of engine=layerwise is complete."""
    deadline = time.monotonic() + 180
    while not (cwd / ".checkpoint.state" / "layer-00000.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def goes_on(cwd: Path, *overrides: str) -> dict[str, bytes]:
    """What the same command makes after an end on the way; it must say that it goes on."""
    said = command("quantize", "output_dir=checkpoint", *overrides, cwd=cwd)
    assert said.returncode == 0, said.stderr
    assert re.search(r"resuming after layer [123] of 3", said.stderr)
    return contents(cwd / "checkpoint")


def statuses(cwd: Path) -> dict[str, str]:
    """Status by name of the runs that MLflow knows."""
    mlflow.set_tracking_uri(f"sqlite:///{cwd}/runs/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return {re.sub(r" ?demo-\w+", "", run.info.run_name) or "demo": run.info.status for run in runs}


KILLED = {"demo": "KILLED", "quantize: samples": "FINISHED", "quantize": "KILLED"}
STARTS_OVER = "no partial files were left; the same command starts over"
GOES_ON = r"the same command resumes after layer [123] \(to start over instead, delete \.checkpoint\.state\)"


def test_kill_leaves_nothing_under_the_name_and_the_next_run_gives_the_same_bytes(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    process = begun(tmp_path, *SMALL, "engine=modelopt")
    wait_for_work(process, tmp_path)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "checkpoint").exists()
    made = contents(quantize(tmp_path, *SMALL, "engine=modelopt"))
    assert {name for name in made if made[name] != alone[name]} == {"manifest.json"}  # it names the engine
    assert not (tmp_path / ".checkpoint.partial").exists()


def test_after_a_kill_the_same_command_goes_on_to_the_same_bytes(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    process = begun(tmp_path, *SMALL)
    wait_for_a_layer(process, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "checkpoint").exists()
    assert goes_on(tmp_path, *SMALL) == alone  # the manifest too
    assert not list(tmp_path.glob(".checkpoint.[ps]*"))


@pytest.mark.parametrize("engine", ["modelopt", "layerwise"])
def test_interrupt_before_anything_is_complete_leaves_nothing(tmp_path: Path, engine: str) -> None:
    if engine == "layerwise":
        words = [PROOFCARD, "quantize", "output_dir=checkpoint", *TRACKED]
        process: subprocess.Popen[str] | Forked = start(words, tmp_path)
    else:
        process = begun(tmp_path, *TRACKED, f"engine={engine}")
    wait_for_work(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.rstrip().endswith(f"interrupted: {STARTS_OVER}")
    assert not (tmp_path / "checkpoint").exists()
    assert not list(tmp_path.glob(".checkpoint.[ps]*"))
    assert statuses(tmp_path) == KILLED


def test_after_an_interrupt_the_same_command_goes_on_and_was_told_so(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    process = begun(tmp_path, *TRACKED)
    wait_for_a_layer(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert re.search(f"interrupted: {GOES_ON}$", errors.rstrip()), errors
    assert not (tmp_path / "checkpoint").exists()
    assert statuses(tmp_path) == KILLED
    assert goes_on(tmp_path, *SMALL) == alone


def test_termination_ends_as_an_interrupt_does(tmp_path: Path) -> None:
    process = begun(tmp_path, *SMALL)
    wait_for_a_layer(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert re.search(f"interrupted: {GOES_ON}$", errors.rstrip()), errors
    assert {path.name for path in tmp_path.glob(".checkpoint.[ps]*")} == {
        ".checkpoint.partial",
        ".checkpoint.state",
    }


def test_remote_code_runs_only_when_its_digest_is_pinned(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(ROOT / "demo" / "model", source)
    with (source / "modeling_minimax_m2.py").open("a") as file:
        file.write(f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    said = command("quantize", f"model.path={source}", "tracking=off", cwd=tmp_path)
    assert said.returncode == 2
    assert "modeling_minimax_m2.py would be run, but its sha256 is" in said.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


@needs_root
def test_a_full_disk_is_foreseen(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as small:
        said = command("quantize", f"output_dir={small}/out", "tracking=off", cwd=tmp_path)
        assert said.returncode == 2
        assert "MB free, but the checkpoint needs up to" in said.stderr
        assert list(small.iterdir()) == []


@needs_root
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 8) as small:
        process = begun(small, *SMALL, f"work_dir={tmp_path}/runs", "engine=modelopt")
        wait_for_work(process, small)
        (small / "somebody else's").write_bytes(bytes(5 << 20))
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 1, errors
        assert errors.rstrip().endswith(f"the disk is full: free some space; {STARTS_OVER}")
        assert {path.name for path in small.iterdir()} == {"somebody else's", ".checkpoint.lock"}


@needs_root
def test_a_disk_that_others_fill_up_on_the_way_costs_no_complete_layer(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    overrides = (*SMALL, f"work_dir={tmp_path}/runs")
    with small_disk(tmp_path / "small", 24) as small:
        process = begun(small, *overrides)
        wait_for_a_layer(process, small)
        with suppress(OSError), (small / "somebody else's").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 1, errors
        assert re.search(f"the disk is full: free some space; {GOES_ON}$", errors.rstrip()), errors
        (small / "somebody else's").unlink()
        assert goes_on(small, *overrides) == alone
