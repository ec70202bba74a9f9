"""What Dockerfile, compose.yaml and the entry point promise, read and run without any image."""

import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT

from proofcard.help import SUMMARIES

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINNED = re.compile(r"^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$")
NO_GPU = "no GPU is visible in this container: add --gpus all (podman: --device nvidia.com/gpu=all)"


def compose(*files: str) -> dict[str, Any]:
    """The services of the files, later ones over earlier ones as `docker compose -f … -f …` merges them."""
    services: dict[str, Any] = {}
    for file in files:
        for name, service in yaml.safe_load((ROOT / file).read_text())["services"].items():
            services[name] = services.get(name, {}) | service
    return services


def stages() -> dict[str, str]:
    """The Dockerfile's stages: name and text."""
    parts = re.split(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("hadolint is not installed: make setup")
    said = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_every_base_is_pinned_by_digest() -> None:
    images = re.findall(r"^ARG (?:BASE|COMPILER|UV)_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(images) == 3
    assert [image for image in images if not PINNED.match(image)] == []
    froms = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert froms <= {"${BASE_IMAGE}", "${COMPILER_IMAGE}", "${UV_IMAGE}", "scratch", *stages()}


def test_every_extra_of_the_lock_has_its_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = set(re.findall(r"--extra ([\w-]+)", DOCKERFILE))
    # numba comes with `quantize` and with both engines: `fast` is for a wheel alone; `agentic` asks a server
    # from anywhere, and needs a sandbox that containers do not allow by default
    assert installed == set(project["optional-dependencies"]) - {"agentic", "fast"}


@pytest.mark.parametrize("target", ["quantize", "serve", "vllm", "bench", "tracking"])
def test_an_image_runs_as_a_numbered_user_with_volumes_and_labels(target: str) -> None:
    text = stages()[target]
    assert "\nUSER 10001:10001\n" in text
    assert 'VOLUME ["/cache", "/data"]' in text
    for label in ("title", "description", "revision"):
        assert f"org.opencontainers.image.{label}=" in text
    assert "proofcard.uv-lock.sha256=${LOCK_SHA256}" in text
    assert ("HEALTHCHECK" in text) == (target in ("serve", "vllm", "tracking"))


def test_what_the_image_copies_is_what_the_context_lets_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied |= {word for word in line.split()[:-1] if not word.startswith("--")}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")])
def test_every_service_is_pinned_or_built_from_the_dockerfile(files: tuple[str, ...]) -> None:
    services = compose(*files)
    built = {s["image"]: s["build"]["target"] for s in services.values() if "build" in s}
    assert set(built.values()) <= set(stages())
    for service in services.values():
        assert service["image"] in built or PINNED.match(service["image"].removeprefix("docker.io/"))


def test_services_start_in_the_order_of_their_health() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in compose("compose.yaml").items()}
    assert waits == {
        "postgres": {},
        "tracking": {"postgres": {"condition": "service_healthy"}},
        "quantize": {"tracking": {"condition": "service_healthy"}},
        "serve": {"quantize": {"condition": "service_completed_successfully"}},
        "benchmark": {"serve": {"condition": "service_healthy"}},
    }
    for awaited in ("postgres", "tracking", "serve"):  # podman's images have no HEALTHCHECK
        assert "healthcheck" in compose("compose.yaml")[awaited]


def test_nothing_is_published_but_on_loopback_and_nothing_of_ours_has_a_right_too_many() -> None:
    for name, service in compose("compose.yaml").items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if name != "postgres":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_secrets_come_from_files_that_one_command_makes(tmp_path: Path) -> None:
    script = tmp_path / "new-secrets.sh"
    script.write_bytes((ROOT / "mlflow" / "new-secrets.sh").read_bytes())
    subprocess.run(["sh", script], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    declared = yaml.safe_load((ROOT / "compose.yaml").read_text())["secrets"]
    assert {Path(secret["file"]).name for secret in declared.values()} == set(made) == set(declared)
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
    ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", "mlflow/secrets/x"], check=False)
    assert ignored.returncode == 0


def entrypoint(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point here; a first word `echo` lets it go on to what a container would start."""
    return subprocess.run(
        ["sh", ROOT / "launch" / "entrypoint.sh", *words], env={"PATH": "/usr/bin:/bin"} | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


without_gpu = pytest.mark.skipif(
    any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists(), reason="this machine has a GPU"
)


@without_gpu
@pytest.mark.parametrize("command", ["quantize", "serve", "benchmark"])
def test_a_missing_gpu_is_said_in_one_sentence_and_stops_nothing(command: str) -> None:
    said = entrypoint("echo", command, "recipe=demo")
    assert (said.returncode, said.stdout) == (0, f"{command} recipe=demo\n")
    assert said.stderr == f"{NO_GPU}, unless none is meant (hardware=cpu, serving=transformers_cpu)\n"


@without_gpu
def test_a_gpu_that_was_asked_for_and_is_missing_stops_before_anything_starts() -> None:
    said = entrypoint("echo", "quantize", "hardware=cuda")
    assert (said.returncode, said.stdout, said.stderr) == (2, "", f"{NO_GPU}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "checkpoint=/data/x"),
        ("quantize", "--help"),
        ("quantize", "hardware=cpu"),
        ("serve", "serving=transformers_cpu"),
        ("benchmark", "endpoint=http://127.0.0.1:8000/v1"),
    ],
)
def test_nothing_is_said_where_no_gpu_is_meant(words: tuple[str, ...]) -> None:
    said = entrypoint("echo", *words)
    assert (said.returncode, said.stdout, said.stderr) == (0, " ".join(words) + "\n", "")


def test_a_password_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    said = entrypoint(
        "printenv", "MLFLOW_TRACKING_PASSWORD", MLFLOW_TRACKING_PASSWORD_FILE=str(tmp_path / "password")
    )
    assert said.stdout == "correct horse\n"


def test_every_command_of_proofcard_is_a_word_of_the_entry_point() -> None:
    text = (ROOT / "launch" / "entrypoint.sh").read_text()
    assert f"\n{' | '.join(SUMMARIES)}) set -- proofcard " in text


def test_signals_reach_the_command_itself() -> None:
    assert (ROOT / "launch" / "entrypoint.sh").read_text().endswith('\nexec "$@"\n')
