"""The files that start a whole chain on a cluster: what they ask for composes, and a signal is passed on."""

import time
from pathlib import Path

import kubernetes_validate
import yaml
from running import ROOT, start

from proofcard.run import request

HANDLED = "trap 'echo stopped > told; kill $!; exit 143' TERM\necho \"$@\" > words\nsleep 20 &\nwait"


def test_the_job_has_a_process_for_each_gpu_and_overrides_that_compose() -> None:
    job = yaml.safe_load((ROOT / "launch" / "kubernetes-run.yaml").read_text())
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    container = job["spec"]["template"]["spec"]["containers"][0]
    (given,) = (entry["value"] for entry in container["env"])
    asked = request.read(given.split())
    assert container["command"][-1] == "exec proofcard run $OVERRIDES"
    assert asked.config.processes == container["resources"]["limits"]["nvidia.com/gpu"]
    assert asked.config.skip == ("serve", "benchmark")


def test_the_batch_script_passes_a_signal_on_and_queues_again(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, lines in (
        ("proofcard", HANDLED),
        ("scontrol", 'echo "$@" > queued'),
    ):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(f"#!/bin/bash\n{lines}\n")
        program.chmod(0o755)
    here = {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8"}
    job = start(["bash", str(ROOT / "launch" / "slurm.sh"), "recipe=demo"], tmp_path, here)
    while not (tmp_path / "words").exists():
        time.sleep(0.02)
    time.sleep(0.2)
    job.terminate()
    job.communicate(timeout=60)
    assert (tmp_path / "words").read_text() == "run processes=8 recipe=demo\n"
    assert (tmp_path / "told").read_text() == "stopped\n"
    assert (tmp_path / "queued").read_text() == "requeue 7\n"
