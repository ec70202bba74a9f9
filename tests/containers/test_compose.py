"""`docker compose up` for real: the database, MLflow, then quantize, serve and benchmark against it.

The images are built as in test_image.py; PostgreSQL's is a stand-in of Debian's packages: no registry is
asked. It wants a running Docker daemon and docker-compose, Debian's will do, and belongs to
`make image-check IMAGES=all`.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers.workshop import Workshop, workshop
from running import ROOT, contents

URL = "http://127.0.0.1:5000"
BUILT = ("tracking", "quantize", "bench")


def docker_answers() -> bool:
    """Whether a daemon is there to be asked."""
    if shutil.which("docker") is None or shutil.which("docker-compose") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.skipif(
        os.environ.get("PROOFCARD_IMAGES") != "all",
        reason="NOT CHECKED BY THIS RUN: `make image-check IMAGES=all`, with a Docker daemon",
    ),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def images() -> Iterator[None]:
    """Every image of compose.yaml, in Docker's own store."""
    if not docker_answers():
        pytest.skip("NOT CHECKED HERE: no Docker daemon answers, or no docker-compose: start dockerd")
    with workshop() as shop:
        for target in BUILT:
            shop.build(target)
            hand_over(shop, f"proofcard-{target}")
        postgres = shop.folder / "postgres.tar"
        script = ROOT / "tests" / "containers" / "stand_ins" / "postgres.sh"
        shop.run(
            "mmdebstrap", "--variant=essential", "--include=postgresql",
            f"--customize-hook=upload {script} /entrypoint", "bookworm", postgres,
        )  # fmt: skip
        started = 'ENTRYPOINT ["sh", "/entrypoint"]'
        subprocess.run(["docker", "import", "--change", started, postgres, "test-postgres"], check=True)
    yield
    names = [f"test-proofcard-{target}" for target in BUILT]
    subprocess.run(["docker", "image", "rm", "--force", "test-postgres", *names], check=True)


def hand_over(shop: Workshop, image: str) -> None:
    """An image of podman's store into Docker's, as `test-…`, and out of podman's."""
    archive = shop.folder / "image.tar"
    name = f"localhost/test-{image}"
    shop.run("podman", "tag", image, name)
    shop.run("podman", "save", "--quiet", "--format", "docker-archive", "--output", archive, name)
    subprocess.run(["docker", "load", "--quiet", "--input", archive], check=True)
    subprocess.run(["docker", "tag", name, f"test-{image}"], check=True)
    subprocess.run(["docker", "image", "rm", name], check=True)
    archive.unlink()
    shop.run("podman", "image", "rm", image, name)


class Project:
    """The services of compose.yaml, with secrets and volumes of their own."""

    def __init__(self, folder: Path) -> None:
        declared = yaml.safe_load((ROOT / "compose.yaml").read_text())
        del declared["name"]  # Debian's docker-compose is older than this field
        for name, service in declared["services"].items():
            service["image"] = "test-postgres" if name == "postgres" else f"test-{service['image']}"
            service.pop("build", None)
        (folder / "compose.yaml").write_text(yaml.safe_dump(declared))
        (folder / "mlflow").mkdir()
        shutil.copy(ROOT / "mlflow" / "new-secrets.sh", folder / "mlflow")
        subprocess.run(["sh", folder / "mlflow" / "new-secrets.sh"], check=True)
        self._folder = folder

    def do(self, *words: str) -> str:
        """A docker-compose command; what it prints, whatever became of it."""
        told = ["docker-compose", "--project-name", "proofcard-test", "--ansi", "never", *words]
        said = subprocess.run(told, cwd=self._folder, capture_output=True, text=True, check=False)
        print(said.stderr)
        return said.stdout

    def password(self) -> str:
        """The first user's."""
        return (self._folder / "mlflow" / "secrets" / "mlflow_admin_password").read_text().strip()


@pytest.fixture(scope="module")
def project(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Everything started, until the last service, benchmark, has ended."""
    made = Project(tmp_path_factory.mktemp("compose"))
    try:
        made.do("up", "--detach")
        made.do("logs", "--follow", "benchmark")  # until it ends
        print(made.do("ps", "--all"))
        yield made
    finally:
        print(made.do("logs", "--tail", "60"), made.do("down", "--volumes"))


def test_quantize_and_benchmark_end_well_and_serve_stays(project: Project) -> None:
    states = {service: state(project, service) for service in ("quantize", "serve", "benchmark")}
    assert states == {"quantize": ("exited", 0), "serve": ("running", 0), "benchmark": ("exited", 0)}
    assert "19 of 19 known answers right" in project.do("logs", "serve")
    assert " | demo-" in project.do("logs", "benchmark")  # the model by the name that the endpoint gives it


def state(project: Project, service: str) -> tuple[str, int]:
    """Of a service's container: its state, and the exit status if it has ended."""
    container = project.do("ps", "--all", "--quiet", service).strip()
    said = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
    found = json.loads(said)[0]["State"]
    return found["Status"], found["ExitCode"]


def test_a_checkpoint_made_there_has_the_bytes_of_uv_run(
    project: Project, demo: Path, tmp_path: Path
) -> None:
    container = project.do("ps", "--all", "--quiet", "quantize").strip()
    made = contents(demo)
    del made["manifest.json"]
    key = json.loads((demo / "manifest.json").read_text())["key"]
    folder = f"{container}:/data/checkpoints/demo-{key[:12]}"
    subprocess.run(["docker", "cp", folder, tmp_path / "copied"], check=True)
    theirs = contents(tmp_path / "copied")
    assert json.loads(theirs.pop("manifest.json"))["key"] == key
    assert theirs == made


def test_the_runs_are_in_mlflow_and_a_stranger_sees_none(project: Project) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("experiments/search", {"max_results": 10}, None)
    assert refused.value.code == 401
    experiments = ask("experiments/search", {"max_results": 10}, project.password())["experiments"]
    every = [each["experiment_id"] for each in experiments]
    runs = ask("runs/search", {"experiment_ids": every, "max_results": 100}, project.password())["runs"]
    commands = {run["info"]["run_name"].split()[0] for run in runs}
    assert all(run["info"]["status"] in ("FINISHED", "RUNNING") for run in runs), runs
    assert {"quantize", "serve", "benchmark"} <= commands


def ask(
    path: str, body: dict[str, object], password: str | None
) -> dict[str, list[dict[str, dict[str, str]]]]:
    """MLflow's REST interface.

    Raises:
        HTTPError: when the server refuses.
    """
    request = urllib.request.Request(
        f"{URL}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    if password is not None:
        request.add_header("Authorization", "Basic " + b64encode(f"admin:{password}".encode()).decode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))
