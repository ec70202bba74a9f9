"""What a child process inherits: no import from the working folder, no secret that it does not need."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import PROOFCARD

from proofcard import children
from proofcard.cli import _MODULES
from proofcard.sandbox import policy
from proofcard.serve.process import Supervised

PIPELINE = Path(__file__).parents[1] / "pipeline"
SECRETS = {
    "HF_TOKEN": "x", "HUGGING_FACE_HUB_TOKEN": "x", "MLFLOW_TRACKING_PASSWORD": "x",
    "MLFLOW_TRACKING_TOKEN": "x", "OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_ACCESS_KEY_ID": "x", "AWS_SESSION_TOKEN": "x", "AWS_PROFILE": "x", "AZURE_CLIENT_ID": "x",
    "GOOGLE_APPLICATION_CREDENTIALS": "/x", "GITHUB_TOKEN": "x", "GH_PAT": "x", "WANDB_API_KEY": "x",
    "NGC_CLI_API_KEY": "x", "DB_PASS": "x", "MYSQL_PWD": "x", "SSH_AUTH_SOCK": "/x",
    "DOCKER_AUTH_CONFIG": "{}",
    "VLLM_API_KEY": "x", "DEPLOY_KEY": "x", "my_secret": "x", "http_proxy": "http://me:pw@proxy:1",
    "DATABASE_URL": "postgresql://u:p@host/db", "ANYTHING": "hf_" + "a" * 30,
}  # fmt: skip
HARMLESS = {
    "HF_HOME": "/cache", "CUDA_VISIBLE_DEVICES": "0", "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION": "4096", "HTTPS_PROXY": "http://proxy:1",
    "NCCL_SOCKET_IFNAME": "eth0", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
}  # fmt: skip
OF_PYTHON = (
    "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONWARNINGS", "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "PYTHONPYCACHEPREFIX", "PYTHONCASEOK", "PYTHONPROFILEIMPORTTIME",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_stays_with_us(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRETS[name])
    assert name not in children.environment()
    assert children.environment(secrets=True)[name] == SECRETS[name]
    assert children.environment({name: "given"})[name] == "given"


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_secret_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, HARMLESS[name])
    assert children.environment()[name] == HARMLESS[name]


@pytest.mark.parametrize("name", OF_PYTHON)
def test_variables_that_have_python_run_something_are_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "evil")
    assert name not in children.environment(secrets=True)


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "LD_LIBRARY_PATH"])
@pytest.mark.parametrize("value", [":/a::.:/b:sub:", "/a:/b", "./x:/a:../y:/b"])
def test_lists_of_folders_name_no_relative_one(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert children.environment()[name] == "/a:/b"
    monkeypatch.setenv(name, ".:")
    assert name not in children.environment()


PLANTED = (
    "argparse",
    "json",
    "random",
    "socket",
    "subprocess",
    "numpy",
    "torch",
    "transformers",
    "sitecustomize",
)


def plant(folder: Path) -> None:
    """Every module that is likely to be imported, each of which marks that it has run."""
    for name in (*PLANTED, "usercustomize", "uvicorn", "mlflow", "hydra", "yaml", "signal", "runpy"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})\n")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder full of such modules."""
    plant(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [None, "", ".", ":/nowhere", "/nowhere:"])
@pytest.mark.parametrize(
    "arguments", [("-c", "import json, socket; import numpy"), ("-m", "json.tool", "--help")]
)
def test_nothing_in_the_working_folder_is_imported(
    hostile: Path, path: str | None, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    subprocess.run(children.python(*arguments), env=children.environment(), check=True, capture_output=True)
    inherited = [sys.executable, *arguments]  # a child's own child, which knows nothing of -P
    subprocess.run(inherited, env=children.environment(), check=True, capture_output=True)
    assert not (hostile / "ran").exists()


def test_an_engine_and_its_children_import_nothing_of_it(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    code = (
        "import subprocess, sys, os, json; print(json.dumps(sorted(os.environ))); "
        "subprocess.run([sys.executable, '-c', 'import argparse, json'], check=True)"
    )
    log = hostile / "log"
    with Supervised((sys.executable, "-c", code), children.environment(), log, 1.0) as engine:
        assert engine.status() == 0
    names = json.loads(log.read_text())
    assert "PYTHONSAFEPATH" in names and "HF_TOKEN" not in names
    assert not (hostile / "ran").exists()


ONE_AFTER_ANOTHER = """
import json, os, runpy, sys
program, *commands = sys.argv[1:]
path, variables, ran = list(sys.path), dict(os.environ), "ran"
for command in commands:
    sys.argv, sys.path[:] = [program, command, "no_such_key=1"], path
    os.environ.clear()
    os.environ.update(variables)
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        planted = open(ran).read() if os.path.exists(ran) else ""
        print(json.dumps([command, end.code, planted, sys.path]))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Of each command, run in such a folder: its exit status, what of it has run, the path of imports.

    One process runs them all: what one has imported, from wherever, the next need not look for.
    """
    folder = tmp_path_factory.mktemp("hostile")
    plant(folder)
    words = [sys.executable, "-P", "-c", ONE_AFTER_ANOTHER, str(PROOFCARD), *_MODULES]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {command: (status, ran, path) for command, status, ran, path in said}


@pytest.mark.parametrize("command", _MODULES)
def test_our_commands_import_nothing_of_it(
    ended: dict[str, tuple[int, str, list[str]]], command: str
) -> None:
    status, ran, path = ended[command]
    assert (status, ran) == (2, "")
    assert all(Path(entry).is_absolute() for entry in path)
    assert not any((Path(entry) / "usercustomize.py").exists() for entry in path)


def test_the_program_itself_imports_nothing_of_it(hostile: Path) -> None:
    done = subprocess.run(
        [PROOFCARD, "quantize", "no_such_key=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert not (hostile / "ran").exists()


def test_security_md_has_a_row_for_every_command_and_names_tests_that_are_there() -> None:
    page = (PIPELINE.parent / "docs/security.md").read_text()
    table = page.partition("| Command |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == _MODULES.keys()
    names = {path.name for path in Path(__file__).parent.rglob("test_*.py")}
    assert set(re.findall(r"test_\w+\.py", page)) <= names
    modules = {path.name for path in PIPELINE.rglob("*.py")}
    assert {name for name in re.findall(r"(\w+\.py)\b", page) if not name.startswith("test_")} - modules == {
        "generate.py"  # transformers'
    }


def test_the_number_of_system_calls_in_the_sandbox_is_the_documented_one() -> None:
    docs = PIPELINE.parent / "docs"
    always = len(policy._CALLS)
    assert f"seccomp: {always} system calls and four more" in (docs / "security.md").read_text()
    assert f"to {always + 4} system calls" in (docs / "serving.md").read_text()


def test_a_process_that_is_made_safe_forgets_relative_folders(hostile: Path) -> None:
    code = (
        "import json, os, sys; from proofcard import children; children.secure_this_process(); "
        "print(json.dumps([os.environ.get('PYTHONPATH'), os.environ['PYTHONSAFEPATH'], sys.path]))"
    )
    for path in hostile.glob("*.py"):
        path.unlink()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": ".:/nowhere:"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    listed, safe, path = json.loads(done.stdout)
    assert (listed, safe) == ("/nowhere", "1")
    assert str(hostile) not in path and "/nowhere" in path


def test_every_child_is_given_its_environment() -> None:
    """Each call in `pipeline` that starts a program says which environment it has."""
    starts = re.compile(
        r"subprocess\.(run|Popen|call|check_\w+)\(|os\.(exec|spawn|posix_spawn|system|popen)\w*\("
    )
    given = re.compile(r"env=(children\.environment\(|environment\b|\{\}|order\[)")
    for file in PIPELINE.rglob("*.py"):
        text = file.read_text()
        for match in starts.finditer(text):
            call = text[match.start() : match.start() + 600].split("\n    except")[0]
            assert given.search(call), (file, call)
