"""What is executed can be printed whole: no secret is in it, and the engine has its key all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from serve.engines import packages, profile

from proofcard.serve import keyed
from proofcard.serve.launch import launch

KEY = "k3y-of-the-clients"
ENGINE = """\
import json, logging, os, sys
from pathlib import Path
logging.basicConfig(format="%(message)s")
logging.warning("started with %s", sys.argv[1:])
cmdline = Path("/proc/self/cmdline").read_text()
print(json.dumps([__name__, sys.argv[1:], os.environ.get("VLLM_API_KEY"), cmdline]))
"""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


def test_sglang_is_started_as_on_the_card(tmp_path: Path) -> None:
    packages("sglang")
    started = launch(profile("sglang_recommended"), tmp_path, 8123)
    assert Path(started.argv[0]).name == "python"
    assert started.argv[1:5] == ("-m", "sglang.launch_server", "--model-path", str(tmp_path))
    assert started.argv[-4:] == ("--host", "127.0.0.1", "--port", "8123")
    assert started.environment["HF_HUB_OFFLINE"] == "1"


def test_a_model_without_a_name_has_its_folder_s(tmp_path: Path) -> None:
    packages("vllm")
    started = launch(profile("vllm").model_copy(update={"served_model_name": None}), tmp_path, 8123)
    assert started.argv[1:3] == ("-m", "vllm.entrypoints.openai.api_server")
    assert started.argv[started.argv.index("--served-model-name") + 1] == tmp_path.name


def test_the_key_is_neither_in_the_command_nor_in_the_environment(tmp_path: Path, key_file: Path) -> None:
    packages("sglang")
    started = launch(
        profile("sglang_recommended").model_copy(update={"api_key_file": key_file}), tmp_path, 8123
    )
    assert started.argv[1:5] == ("-P", keyed.__file__, str(key_file), "sglang.launch_server")
    assert KEY not in str(started)


@pytest.mark.parametrize("module", ["sglang_like", "vllm_like"])
def test_the_engine_s_process_finds_its_key_where_nobody_else_sees_it(
    tmp_path: Path, key_file: Path, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(ENGINE)
    ran = subprocess.run(
        [sys.executable, "-P", keyed.__file__, str(key_file), module, "--port", "1"],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    name, arguments, variable, seen = json.loads(ran.stdout)
    assert name == "__main__"
    assert KEY not in seen
    assert KEY not in ran.stderr
    if module == "sglang_like":
        assert (arguments, variable) == (["--port", "1", "--api-key", KEY], None)
        assert "'--api-key', '[redacted]'" in ran.stderr
    else:
        assert (arguments, variable) == (["--port", "1"], KEY)
