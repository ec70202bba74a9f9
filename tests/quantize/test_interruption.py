"""Kill, interrupt, changed code, busy output: nothing half-written, nothing lost, one clear sentence."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from running import ROOT, command, contents, quantize


def started(cwd: Path, *overrides: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "quantize"
    return subprocess.Popen(
        [program, "output_dir=checkpoint", *overrides],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell starts background jobs with SIGINT ignored, and these tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_work(process: subprocess.Popen[str], cwd: Path) -> None:
    """Until the checkpoint's unfinished folder exists: the model is being loaded or calibrated."""
    deadline = time.monotonic() + 120
    while not (cwd / ".checkpoint.partial").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_kill_leaves_nothing_under_the_name_and_the_next_run_gives_the_same_bytes(
    demo: Path, tmp_path: Path
) -> None:
    process = started(tmp_path, "tracking=off", "hardware.threads=2")
    wait_for_work(process, tmp_path)
    time.sleep(3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "checkpoint").exists()
    assert contents(quantize(tmp_path, "hardware.threads=2")) == contents(demo)
    assert not (tmp_path / ".checkpoint.partial").exists()


def test_interrupt_stops_cleanly_and_the_run_says_killed(tmp_path: Path) -> None:
    process = started(tmp_path)
    wait_for_work(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert not (tmp_path / "checkpoint").exists()
    assert not (tmp_path / ".checkpoint.partial").exists()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs/mlflow.db")
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.data.tags["mlflow.runName"]: run.info.status for run in runs} == {
        "demo": "KILLED",
        "samples": "FINISHED",
        "quantize": "KILLED",
    }


def test_remote_code_runs_only_when_its_digest_is_pinned(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(ROOT / "demo" / "model", source)
    with (source / "modeling_minimax_m2.py").open("a") as file:
        file.write(f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    said = command("quantize", f"model.path={source}", "tracking=off", cwd=tmp_path)
    assert said.returncode == 2
    assert "modeling_minimax_m2.py would be run, and its sha256 is" in said.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED HERE: mounting a tmpfs needs root")


@needs_root
def test_a_full_disk_is_foreseen(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as small:
        said = command("quantize", f"output_dir={small}/out", "tracking=off", cwd=tmp_path)
        assert said.returncode == 2
        assert "GB free; the checkpoint needs up to" in said.stderr
        assert list(small.iterdir()) == []


@needs_root
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half_written(demo: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 8) as small:
        process = started(small, "tracking=off", "hardware.threads=2", f"work_dir={tmp_path}/runs")
        wait_for_work(process, small)
        (small / "somebody else's").write_bytes(bytes(5 << 20))
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 1, errors
        assert errors.rstrip().endswith(
            "the disk is full: nothing half-written was left; make room, run it again"
        )
        assert {path.name for path in small.iterdir()} == {"somebody else's", ".checkpoint.lock"}
        (small / "somebody else's").unlink()
        again = quantize(small, "hardware.threads=2", f"work_dir={tmp_path}/runs")
        assert contents(again) == contents(demo)
