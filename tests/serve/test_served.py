"""The real demo checkpoint behind the real `transformers serve`, through the command."""

import signal
import socket
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from serving import Process, Served, ended, family, left_of, start, wait_for


def test_openais_client_reads_the_stream(served: Served):
    said = "".join(chunk.choices[0].delta.content or "" for chunk in served.streamed)
    assert "\\boxed{56}" in said
    assert served.streamed[-1].choices[0].finish_reason == "stop"
    assert all(
        chunk.usage is None for chunk in served.streamed
    )  # docs/serving.md says so to clients that count


def test_the_known_questions_were_asked_first(served: Served):
    assert "19 of 19 known answers right" in " ".join(served.out.split())
    assert served.out.index("known answers right") < served.out.index("address")


def test_it_listens_on_loopback_only(served: Served):
    assert served.reached == ["127.0.0.1"]


def test_the_command_line_can_be_pasted_into_a_shell(served: Served):
    line = next(line for line in served.err.splitlines() if line.startswith("starts: "))
    assert "HF_HUB_OFFLINE=1" in line and "--host 127.0.0.1" in line and "--trust-remote-code" in line
    written = (served.cwd / "runs/serve/transformers_cpu-001/command.txt").read_text()
    assert line == f"starts: {written.strip()}"


def test_ctrl_c_ends_it_with_all_its_processes(served: Served):
    assert served.status == 130
    assert served.left == []
    assert "interrupted: the engine was stopped, no process of it is left" in served.err
    assert "Traceback" not in served.err


def test_the_run_is_tracked_whole(served: Served, monkeypatch: pytest.MonkeyPatch):
    import mlflow

    from proofcard import manifest
    from proofcard.documents import read
    from proofcard.documents.serving import ServingSession

    monkeypatch.chdir(served.cwd)  # the store's address is relative to the folder it was made in
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{served.cwd}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("proofcard")
    run, parent = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.info.run_name.startswith("serve transformers_cpu ") and run.info.status == "FINISHED"
    assert run.data.metrics["known_answers"] == parent.data.metrics["known_answers"] == 1
    assert run.data.metrics["ready_s"] > 0
    assert run.data.params["serving.flags.device"] == "cpu"
    assert run.data.tags["key"] == manifest.read(served.checkpoint).key
    assert run.data.tags["engine.version"] == "4.57.6"
    names = {item.path for item in client.list_artifacts(run.info.run_id, "serve")}
    assert names == {
        "serve/command.txt",
        "serve/engine.log",
        "serve/known_answers.json",
        "serve/session.json",
    }
    session = read(ServingSession, served.cwd / "runs/serve/transformers_cpu-001/session.json")
    assert session.known_answers.passed == 19 and session.key == manifest.read(served.checkpoint).key


def test_kill_9_of_the_command_leaves_no_process(served: Served, tmp_path: Path):
    process, processes = begun(served, tmp_path)
    process.kill()
    ended(process)
    assert left_of(processes) == []


def test_an_engine_that_dies_is_one_sentence(served: Served, tmp_path: Path):
    process, processes = begun(served, tmp_path)
    engine_of(process).kill()
    assert ended(process) == 1
    error = (tmp_path / "err.txt").read_text()
    assert "serve: transformers was killed by signal 9; it was killed, probably by the kernel" in error
    assert "Traceback" not in error
    assert left_of(processes) == []


def test_an_engine_that_is_never_ready_is_stopped(served: Served, tmp_path: Path):
    process, processes = begun(served, tmp_path, "serving.ready_timeout_s=1")
    assert ended(process) == 1
    assert "transformers_cpu was not ready after 1 s and was stopped" in (tmp_path / "err.txt").read_text()
    assert left_of(processes) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_ends_everything(served: Served, tmp_path: Path, number: signal.Signals):
    process, processes = begun(served, tmp_path)
    process.send_signal(number)
    assert ended(process) == 128 + number
    assert left_of(processes) == []


def test_a_port_in_use_is_said_before_anything_starts(served: Served, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(tmp_path, f"checkpoint={served.checkpoint}", f"serving.port={port}", "tracking=off")
        assert ended(process) == 2
    error = (tmp_path / "err.txt").read_text()
    assert f"port {port} of 127.0.0.1 is in use by" in error and "serving.port=" in error
    assert not (tmp_path / "runs").exists()


def begun(served: Served, cwd: Path, *overrides: str):
    """`serve` with its engine under way, in the working folder that has the dequantized checkpoint."""
    checkpoint, runs = f"checkpoint={served.checkpoint}", f"work_dir={served.cwd / 'runs'}"
    process = start(cwd, checkpoint, runs, "tracking=off", *overrides)
    wait_for("starts: ", cwd / "err.txt", process)
    return process, family(process, 2)


def engine_of(process: Process) -> psutil.Process:
    """The engine below a command, as soon as it is one: at first it is a copy of what starts it."""
    while True:
        for each in family(process, 2):
            with suppress(psutil.NoSuchProcess):
                if "proofcard.serve.transformers_server" in each.cmdline():
                    return each
