"""A real Slurm of one node, this machine, as three processes in a folder of their own."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd")

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=all Nodes={host} Default=YES
"""


def missing() -> str | None:
    """Why there can be no Slurm here, or None."""
    if os.geteuid() != 0:
        return "slurmd needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)" if absent else None


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """What the environment must hold for its commands. When it is left, no process of it is."""
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    ports = {"controller": free_port(), "daemon": free_port()}
    conf.write_text(_CONF.format(host=host, folder=folder, **ports))
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]
    environment = {"SLURM_CONF": str(conf)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
            _until(lambda: (folder / "munge.socket").exists(), folder)
        _until(lambda: "idle" in _said("sinfo", "-h", "-o", "%T", **environment), folder)
        yield environment
        _until(lambda: _said("squeue", "-h", **environment) == "", folder)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert not left(folder)


def left(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has just ended
            continue
    return [line for line in found if str(folder) in line]


def _said(*command: str, **environment: str) -> str:
    said = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 else said.stderr


def _until(holds, folder: Path) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "".join(p.read_text() for p in sorted(folder.glob("*.out")))
        time.sleep(0.2)
