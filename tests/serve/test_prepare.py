"""What is wrong with a request is said before anything starts."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from proofcard.config import ServeConfig, compose
from proofcard.config.serving import Serving
from proofcard.errors import Usage
from proofcard.redact import redact
from proofcard.serve import address, remote_code
from proofcard.serve.engine import prepare, read_config

MODEL = Path(__file__).parents[2] / "demo/model"


@pytest.fixture(scope="module")
def profile() -> Serving:
    return compose(ServeConfig, "serve", ["checkpoint=x", "serving=transformers_cpu"]).serving


def altered(profile: Serving, **values: Any) -> Serving:
    return Serving.model_validate(profile.model_dump() | values)


def test_transformers_stays_on_loopback(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"serving\.host=0\.0\.0\.0 can be reached by others, and transformers"):
        prepare(altered(profile, host="0.0.0.0"), MODEL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_engines_leave_loopback_only_with_a_key(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"can be reached by others: give serving\.api_key_file=FILE"):
        address.check_host(altered(profile, engine="sglang", host="10.0.0.7"))
    key = tmp_path / "key"
    key.write_text("correct-horse\n")
    asked = altered(profile, engine="sglang", host="10.0.0.7", api_key_file=key)
    address.check_host(asked)
    assert address.read_key(asked.api_key_file) == "correct-horse"
    assert redact("--api-key correct-horse") == "--api-key [redacted]"


def test_a_key_file_that_holds_no_key_is_named(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match="cannot be read"):
        address.read_key(tmp_path / "none")
    (tmp_path / "two").write_text("two words")
    with pytest.raises(Usage, match="should hold one word"):
        address.read_key(tmp_path / "two")


def test_an_address_of_another_machine_cannot_be_listened_on(profile: Serving):
    with pytest.raises(Usage, match=r"nothing can listen on 192\.0\.2\.1 port 8000"):
        address.free_port(altered(profile, engine="vllm", host="192.0.2.1", port=8000))


def test_code_that_nobody_pinned_does_not_run(tmp_path: Path, profile: Serving):
    theirs = Path(shutil.copytree(MODEL, tmp_path / "theirs"))
    assert remote_code.needed(theirs, read_config(theirs), {})
    with (theirs / "modeling_minimax_m2.py").open("a") as file:
        file.write("\nprint('hello')\n")
    with pytest.raises(
        Usage, match=r"(?s)would be run, and its sha256 is .* pin it under serving\.remote_code"
    ):
        prepare(profile, theirs, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"is no checkpoint folder: it has no config\.json"):
        prepare(profile, tmp_path, tmp_path / "work")
