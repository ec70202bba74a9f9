"""What is wrong with a request is said before anything starts."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from proofcard.checkpoint import remote_code
from proofcard.config import ServeConfig, compose
from proofcard.config.serving import Serving
from proofcard.errors import Usage
from proofcard.redact import redact
from proofcard.serve import address
from proofcard.serve.engine import _own_code, prepare

MODEL = Path(__file__).parents[2] / "demo/model"


@pytest.fixture(scope="module")
def profile() -> Serving:
    return compose(ServeConfig, "serve", ["checkpoint=x", "serving=transformers_cpu"]).serving


def altered(profile: Serving, **values: Any) -> Serving:
    return Serving.model_validate(profile.model_dump() | values)


def test_transformers_stays_on_loopback(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"serving\.host=0\.0\.0\.0 can be reached from other machines, and"):
        prepare(altered(profile, host="0.0.0.0"), MODEL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_engines_leave_loopback_only_with_a_key(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"can be reached from other machines: set serving\.api_key_file=FILE"):
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
    with pytest.raises(Usage, match="must contain one word"):
        address.read_key(tmp_path / "two")


def test_an_address_of_another_machine_cannot_be_listened_on(profile: Serving):
    with pytest.raises(Usage, match=r"cannot listen on 192\.0\.2\.1 port 8000"):
        address.free_port(altered(profile, engine="vllm", host="192.0.2.1", port=8000))


def test_code_that_nobody_pinned_does_not_run(tmp_path: Path, profile: Serving):
    theirs = Path(shutil.copytree(MODEL, tmp_path / "theirs"))
    found = remote_code.read(theirs)
    assert remote_code.known_pins(found)
    with (theirs / "modeling_minimax_m2.py").open("a") as file:
        file.write("\nprint('hello')\n")
    with pytest.raises(
        Usage, match=r"(?s)would be run, but its sha256 is .* pin it under serving\.remote_code"
    ):
        prepare(profile, theirs, tmp_path / "work")
    assert not (tmp_path / "work").exists()


EVIL = "raise SystemExit('ran')\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"sub/evil.py": EVIL, "config.json": {"auto_map": {"AutoModelForCausalLM": "sub/evil.E"}}},
            "refers to 'sub/ev",
        ),
        ({"config.json": {"auto_map": {"AutoConfig": "/tmp/evil.E"}}}, "refers to '/tmp/evil.E'"),
        (
            {"config.json": {"auto_map": {"AutoConfig": "attacker/repo--evil.E"}}},
            "refers to 'attacker/repo--evil.E'",
        ),
        ({"custom_generate/generate.py": EVIL}, "custom_generate/generate.py would be run"),
        (
            {"evil.py": EVIL, "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.E", None]}}},
            "evil.py wou",
        ),
        (
            {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["a/b--evil.E", None]}}},
            "refers to 'a/b--evil.E'",
        ),
        (
            {"processor_config.json": {"auto_map": {"AutoProcessor": "a/b--evil.E"}}},
            "refers to 'a/b--evil.E'",
        ),
        ({"config.json": {"_attn_implementation": "a/b"}}, "downloaded from the hub"),
        ({"evil.so": EVIL}, "evil.so would be run"),
    ],
)
@pytest.mark.parametrize("engine", ["transformers", "sglang", "vllm"])
def test_code_by_other_ways_does_not_run_either(
    tmp_path: Path, profile: Serving, engine: str, files: dict[str, Any], sentence: str
) -> None:
    theirs = Path(shutil.copytree(MODEL, tmp_path / "theirs"))
    for name, content in files.items():
        path = theirs / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps((json.loads(path.read_text()) if path.exists() else {}) | content)
        path.write_text(content)
    asked = altered(profile, engine=engine, flags=profile.flags | {"trust-remote-code": True})
    with pytest.raises(Usage, match=re.escape(sentence)):
        prepare(asked, theirs, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_engines_with_models_of_their_own_run_code_only_when_told_to(
    tmp_path: Path, profile: Serving
) -> None:
    theirs = Path(shutil.copytree(MODEL, tmp_path / "theirs"))
    (theirs / "modeling_minimax_m2.py").write_text(EVIL)
    found = remote_code.read(theirs)
    for engine in ("sglang", "vllm"):
        assert _own_code(found, altered(profile, engine=engine)) == {}
        with pytest.raises(Usage, match="would be run"):
            _own_code(found, altered(profile, engine=engine, flags={"trust-remote-code": True}))


def test_the_engine_is_given_a_folder_of_its_own(tmp_path: Path, profile: Serving) -> None:
    prepared = prepare(altered(profile, flags={"trust-remote-code": True}), MODEL, tmp_path)
    (model,) = (tmp_path / "serve/transformers_cpu-001/model").iterdir()
    assert f"--force-model={model}" in prepared.launch.argv
    assert prepared.launch.environment["HF_MODULES_CACHE"] == str(model.parent / "modules")
    assert not (model.parent / "modules").exists()
    assert prepared.serving.flags["trust-remote-code"] is True
    assert "quantization_config" not in json.loads((model / "config.json").read_text())
    assert {path.name for path in model.iterdir() if path.suffix == ".py"} == set(
        remote_code.known_pins(remote_code.read(MODEL))
    )
    assert all(path.is_symlink() for path in model.glob("*.safetensors"))


def test_no_engine_is_told_to_trust_a_checkpoint_without_code(tmp_path: Path, profile: Serving) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (plain / "unused.py").write_text(EVIL)
    save_file({"w": np.zeros(2, np.float32)}, plain / "model.safetensors")
    prepared = prepare(altered(profile, flags={"trust-remote-code": True}), plain, tmp_path / "work")
    assert "--trust-remote-code" not in prepared.launch.argv
    assert not list((tmp_path / "work").rglob("*.py"))


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path, profile: Serving):
    with pytest.raises(Usage, match=r"is not a checkpoint folder: it has no config\.json"):
        prepare(profile, tmp_path, tmp_path / "work")


def test_transformers_reads_config_json_in_its_own_words(tmp_path: Path, profile: Serving) -> None:
    """In the words of transformers 5 it would turn positions by its default base, and answer all the same."""
    from running import tiny

    folder = tiny(tmp_path / "plain", "llama", num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_theta", None)
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6}
    (folder / "config.json").write_text(json.dumps(config))
    prepared = prepare(profile, folder, tmp_path / "runs")
    (given,) = (tmp_path / "runs").rglob("model/plain/config.json")
    served = json.loads(given.read_text())
    assert served["rope_theta"] == 5e6 and "rope_parameters" not in served
    assert str(given.parent) in " ".join(prepared.launch.argv)
    config["rope_parameters"] |= {"rope_theta": 1e6}
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 1e4}))
    with pytest.raises(Usage, match=r"has rope_theta=10000\.0, but 1000000\.0"):
        prepare(profile, folder, tmp_path / "runs")
