"""Hydra's launchers and sweeps, Slurm, Kubernetes' and SkyPilot's files: each runs on this machine."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forking
import kubernetes_validate
import pytest
import slurm
import yaml
from quantize.tiny_moe import TinyMoe, tiny_moe
from running import ROOT, command, contents, run, start, surroundings
from several import SMALL


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> TinyMoe:
    return tiny_moe(tmp_path_factory.mktemp("moe"), texts)


def test_hydra_s_local_launcher_gives_the_same_bytes(moe: TinyMoe, tmp_path: Path) -> None:
    two = ["hydra/launcher=local", "hydra.launcher.tasks_per_node=2"]
    here = forking.by_name(surroundings())
    status, _, errors = run(moe.words(*two), tmp_path, here)
    assert status == 0, errors
    assert contents(tmp_path / "checkpoint") == moe.files
    status, _, errors = run(moe.words(*two, "output_dir=other", "engine=modelopt"), tmp_path, here)
    assert status == 2
    assert errors.rstrip().splitlines()[-1].startswith("quantize: engine=modelopt runs as one process")


def test_a_sweep_makes_every_configuration(moe: TinyMoe, tmp_path: Path) -> None:
    here = forking.by_name(surroundings())
    status, said, errors = run(
        ["proofcard", "quantize", "-m", "kv_cache=fp8,none", *moe.recipe], tmp_path, here
    )
    assert status == 0, errors
    assert said.count("(made)") == 2
    made = [path for path in (tmp_path / "runs/checkpoints").glob("local-*") if path.is_dir()]
    assert len(made) == 2
    assert any(contents(path) == moe.files for path in made)
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the working folder ran')\n")
    others = [word for word in moe.recipe if not word.startswith("model.path=")]
    status, said, errors = run(
        ["proofcard", "quantize", "-m", "model.path=/nowhere,/there", *others], tmp_path
    )
    assert (status, said.count("(made)")) == (2, 0)
    assert "quantize: model.path=/nowhere does not exist" in errors
    assert "quantize: the job model.path=/nowhere" in errors.rstrip().splitlines()[-1]


def test_an_interrupted_sweep_leaves_no_job_behind(tmp_path: Path) -> None:
    process = start(["proofcard", "quantize", "-m", "kv_cache=fp8,none", *SMALL], tmp_path)
    while not list(tmp_path.glob("runs/checkpoints/.demo-*.partial")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=120)  # at once: no job holds the pipe open
    assert process.returncode == 143
    assert errors.count("interrupted") == 2  # the job, which says what is kept, and the sweep
    assert "Traceback" not in errors


def test_a_sweep_is_not_for_ranks(tmp_path: Path) -> None:
    status, _, errors = run(
        ["proofcard", "quantize", "-m", "kv_cache=fp8,none"], tmp_path, {"RANK": "0", "WORLD_SIZE": "2"}
    )
    assert (status, errors.count("give them to one process, not to ranks")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hydra/launcher=slum"], "hydra/launcher=slum does not exist: did you mean 'slurm'?"),
        (["hydra/launcher=slurm", "kv_cache=fp9"], "kv_cache=fp9 does not exist: did you mean 'fp8'?"),
        (["-m", "kv_cache=none,fp9"], "kv_cache=fp9 does not exist: did you mean 'fp8'?"),
        (["-m", "seed=1,x"], "seed='x': it must be a valid integer"),
    ],
)
def test_a_bad_request_is_not_handed_to_a_launcher(tmp_path: Path, words: list[str], sentence: str) -> None:
    said = command("quantize", *words, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith(f"quantize: {sentence}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if why := slurm.missing():
        pytest.skip(f"NOT CHECKED HERE: {why}")
    with slurm.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield forking.by_name(surroundings()) | environment


def test_slurm_through_hydra_gives_the_same_bytes(
    cluster: dict[str, str], moe: TinyMoe, tmp_path: Path
) -> None:
    words = ["tasks_per_node=2", "gpus_per_node=null", "cpus_per_task=1"]
    words = ["hydra/launcher=slurm", *(f"hydra.launcher.{word}" for word in words)]
    status, _, errors = run(moe.words(*words), tmp_path, cluster)
    assert status == 0, errors
    assert contents(tmp_path / "checkpoint") == moe.files
    assert len(list((tmp_path / "runs/hydra").rglob("*_[01]_result.pkl"))) == 2


def test_srun_starts_ranks_and_an_allocation_alone_does_not(cluster: dict[str, str], tmp_path: Path) -> None:
    script = (
        "from proofcard import joining\n"
        "with joining.joined('cpu') as team:\n"
        "    team.wait(); print(team.rank, team.count, team.first_fault(None))"
    )
    python = [sys.executable, "-c", script]
    status, said, errors = run(["srun", "--quiet", "--ntasks=2", *python], tmp_path, cluster)
    assert (status, sorted(said.splitlines())) == (0, ["0 2 None", "1 2 None"]), errors
    status, said, errors = run(["salloc", "--quiet", "--ntasks=2", *python], tmp_path, cluster)
    assert (status, said) == (0, "0 1 None\n"), errors


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text()))


def test_the_kubernetes_file_is_what_its_schema_and_its_own_numbers_say() -> None:
    for document in kubernetes():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    service, job = kubernetes()
    container = job["spec"]["template"]["spec"]["containers"][0]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(given["NODES"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(given["GPUS"])
    name, subdomain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert given["MASTER_ADDR"] == f"{name}-0.{service['metadata']['name']}"
    assert service["metadata"]["name"] == subdomain
    assert service["spec"]["selector"] == {"job-name": name}


def forked_checkout(folder: Path, environment: dict[str, str]) -> Path:
    """A folder with a `.venv` whose programs are forked, torchrun among them; see tests/fork_shim.py."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    shim = shutil.which("proofcard", path=environment["PATH"])
    assert shim is not None
    for name in ("proofcard", "torchrun"):
        (programs / name).symlink_to(shim)
    (programs / "activate").write_text(f"PATH='{programs}':$PATH\n")
    return folder


@pytest.mark.parametrize("system", ["kubernetes", "skypilot"])
def test_its_script_runs_on_two_nodes_and_gives_the_same_bytes(
    moe: TinyMoe, tmp_path: Path, system: str
) -> None:
    """Of SkyPilot's nodes, the leading one has the environment of this checkout; the others fork."""
    here = forking.by_name(surroundings()) | {
        "OVERRIDES": " ".join(
            [*moe.recipe, f"work_dir={tmp_path}/runs", f"output_dir={tmp_path}/checkpoint"]
        ),
        "MASTER_PORT": str(slurm.free_port()),
    }
    forks = forked_checkout(tmp_path / "forks", here)
    if system == "kubernetes":
        words = kubernetes()[1]["spec"]["template"]["spec"]["containers"][0]["command"]
        here |= {"NODES": "2", "GPUS": "1", "MASTER_ADDR": "127.0.0.1"}
        here |= {"PATH": f"{forks / '.venv' / 'bin'}:{here['PATH']}"}
        index, first = "JOB_COMPLETION_INDEX", forks
    else:
        said = yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())
        assert said["num_nodes"] == 2
        words = ["bash", "-e", "-c", said["run"]]
        here |= {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "1"}
        here |= {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1"}
        index, first = "SKYPILOT_NODE_RANK", ROOT
    nodes = [start(words, cwd, here | {index: str(n)}) for n, cwd in enumerate((first, forks))]
    ended = [node.communicate(timeout=600) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ended
    assert contents(tmp_path / "checkpoint") == moe.files
