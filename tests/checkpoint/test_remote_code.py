"""Code of a checkpoint: what may be named, what must be pinned, and what a loader is given."""

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from proofcard.checkpoint import remote_code
from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Usage
from proofcard.quantize.model import bare

MODEL = Path(__file__).parents[2] / "demo/model"
PINS = compose(QuantizeConfig, "config", []).model.remote_code
CODE = "class Evil:\n    raise SystemExit('ran')\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's source without its weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in MODEL.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    return folder


def edit(file: Path, **values: Any) -> None:
    settings = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(settings | values))


def put(folder: Path, name: str, content: str = CODE) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return hashlib.sha256(content.encode()).hexdigest()


FOREIGN = (
    "attacker/repo--evil.Evil", "repo--evil.Evil", "--evil.Evil", "sub/evil.Evil", "./evil.Evil",
    "../evil.Evil", "/tmp/evil.Evil", "/tmp--evil.Evil", "/tmp/dir--sub/evil.Evil", "sub.evil.Evil", "evil",
    ".Evil", "evil.", "..", "evil.Evil.Evil", "sub\\evil.Evil", "http://host/evil.Evil", "evil .Evil",
    "evil.Evil\n", "évil.Evil",
    "evil:x.Evil", "~/evil.Evil", "a--b--evil.Evil", 3, True, ["sub/evil.Evil", None], [[["a/b--evil.Evil"]]],
    {"AutoModel": "a/b--evil.Evil"}, ["evil.Evil", {"x": "../evil.Evil"}],
)  # fmt: skip


@pytest.mark.parametrize("reference", FOREIGN)
def test_code_of_the_hub_or_of_another_folder_cannot_be_named(model: Path, reference: Any) -> None:
    put(model, "evil.py")
    put(model, "sub/evil.py")
    auto_map = json.loads((MODEL / "config.json").read_text())["auto_map"]
    edit(model / "config.json", auto_map=auto_map | {"AutoModelForCausalLM": reference})
    with pytest.raises(Usage, match=r"config\.json: auto_map"):
        remote_code.for_model(model, PINS)
    edit(
        model / "config.json",
        auto_map=auto_map,
        text_config={"deep": [{"auto_map": {"AutoModel": reference}}]},
    )
    if reference != "evil.py":  # the class `py` of evil.py
        with pytest.raises(Usage, match=r"text_config\.deep\.auto_map"):
            remote_code.read(model)


SETTINGS = (
    "tokenizer_config.json", "processor_config.json", "preprocessor_config.json", "generation_config.json",
    "video_preprocessor_config.json", "adapter_config.json", "chat_template.json", "special_tokens_map.json",
    "any_other.json", "Config.JSON",
)  # fmt: skip


@pytest.mark.parametrize("file", SETTINGS)
@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoTokenizer": ["a/b--slow.Slow", None]}},
        {"auto_map": ["a/b--slow.Slow", "fast.Fast"]},
        {"image_processor": {"auto_map": {"AutoImageProcessor": "sub/x.X"}}},
        {"custom_pipelines": {"task": {"impl": "a/b--pipe.Pipe", "pt": ["AutoModel"]}}},
        {"custom_generate": "a/b"},
    ],
)
def test_every_json_file_is_looked_at(model: Path, file: str, values: dict[str, Any]) -> None:
    edit(model / file, **values)
    with pytest.raises(Usage, match=f"(?i){file}: "):
        remote_code.read(model)


def test_a_key_that_stands_twice_hides_nothing(model: Path) -> None:
    text = (MODEL / "config.json").read_text()
    (model / "config.json").write_text('{"auto_map": {"AutoConfig": "a/b--c.C"},' + text.lstrip()[1:])
    with pytest.raises(Usage, match=r"a/b--c\.C"):
        remote_code.read(model)
    (model / "config.json").write_text('{"auto\\u005fmap": {"AutoConfig": "a/b--c.C"}}')
    with pytest.raises(Usage, match=r"a/b--c\.C"):
        remote_code.read(model)


@pytest.mark.parametrize(
    ("file", "values", "sentence"),
    [
        (
            "config.json",
            {"_attn_implementation": "kernels-community/flash-attn"},
            "downloaded from the hub",
        ),
        (
            "config.json",
            {"attn_implementation": {"text_config": "a/b@main:layer"}},
            "downloaded from the hub",
        ),
        (
            "config.json",
            {"text_config": {"_attn_implementation_internal": "paged|a/b"}},
            "downloaded from the hub",
        ),
        ("config.json", {"experts_implementation": "a/b"}, "downloaded from the hub"),
        ("config.json", {"architectures": ["os.system"]}, "not a class name"),
        ("tokenizer_config.json", {"tokenizer_class": "os.system"}, "not a class name"),
        ("preprocessor_config.json", {"feature_extractor_type": "../x"}, "not a class name"),
        ("processor_config.json", {"processor_class": "a/b--c"}, "not a class name"),
    ],
)
def test_other_ways_to_name_code_are_refused(
    model: Path, file: str, values: dict[str, Any], sentence: str
) -> None:
    edit(model / file, **values)
    with pytest.raises(Usage, match=sentence):
        remote_code.for_model(model, PINS)


def test_what_libraries_know_is_no_code_of_the_checkpoint(model: Path) -> None:
    edit(model / "config.json", _attn_implementation="sdpa", attn_implementation={"": "flash_attention_2"})
    edit(model / "tokenizer_config.json", chat_template="{{ auto_map.x/y--z.Z }}", auto_map=None)
    edit(model / "processor_config.json", processor_class="Qwen2VLProcessor", auto_map={})
    folder, own_code = remote_code.for_model(model, PINS)
    assert own_code
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", *sorted(PINS)]


EXTRA = (
    "evil.py", "sub/evil.py", "a/b/c/evil.py", "EVIL.PY", ".hidden/evil.py", ".evil.py", "evil.so",
    "evil.pyc", "evil.cpython-311-x86_64-linux-gnu.so", "evil.abi3.so", "sub/evil.pyd",
    "__pycache__.pyc", "custom_generate/generate.py",
    "modeling_minimax_m2/__init__.py", "Modeling_minimax_m2.py",
)  # fmt: skip


@pytest.mark.parametrize("name", EXTRA)
def test_whatever_python_could_import_is_pinned_or_refused(model: Path, name: str) -> None:
    digest = put(model, name)
    with pytest.raises(Usage, match=rf"(?s){name} would be run, but its sha256 is {digest}.*pin it under"):
        remote_code.for_model(model, PINS)
    folder, _ = remote_code.for_model(model, PINS | {name: digest})
    assert (folder / name).read_text() == CODE


@pytest.mark.parametrize("folder", ["__pycache__", "sub/__pycache__"])
def test_byte_code_that_an_installer_left_is_in_no_private_copy(model: Path, folder: str) -> None:
    put(model, f"{folder}/modeling_minimax_m2.cpython-311.pyc")
    private, own_code = remote_code.for_model(model, PINS)
    assert own_code
    assert sorted(path.name for path in private.rglob("*")) == ["config.json", *sorted(PINS)]


def test_a_pinned_file_that_is_missing_or_changed_is_named(model: Path) -> None:
    (model / "modeling_minimax_m2.py").unlink()
    with pytest.raises(Usage, match=r"modeling_minimax_m2\.py would be run, but its sha256 is absent"):
        remote_code.for_model(model, PINS)
    with pytest.raises(Usage, match=r"refers to modeling_minimax_m2\.py, which is missing"):
        remote_code.for_model(model, {name: pin for name, pin in PINS.items() if "configuration" in name})
    put(model, "modeling_minimax_m2.py")
    with pytest.raises(Usage, match=r"(?s)read it, then pin it under model\.remote_code:\n  configuration_"):
        remote_code.for_model(model, PINS)


def test_a_link_counts_as_what_it_leads_to(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "elsewhere.py"
    own.write_bytes((model / "modeling_minimax_m2.py").read_bytes())
    (model / "modeling_minimax_m2.py").unlink()
    (model / "modeling_minimax_m2.py").symlink_to(own)
    folder, _ = remote_code.for_model(model, PINS)
    assert not (folder / "modeling_minimax_m2.py").is_symlink()
    own.write_text(CODE)
    with pytest.raises(Usage, match="would be run"):
        remote_code.for_model(model, PINS)


def test_a_pipe_or_a_huge_file_in_place_of_code_is_refused_at_once(model: Path) -> None:
    os.mkfifo(model / "pipe.py")
    with pytest.raises(Usage, match=r"pipe\.py is not a regular file"):
        remote_code.for_model(model, PINS)
    (model / "pipe.py").unlink()
    with (model / "huge.py").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(Usage, match=r"huge\.py is larger than 16 MiB"):
        remote_code.for_model(model, PINS)


def test_a_checkpoint_that_names_no_code_needs_no_pins(model: Path) -> None:
    edit(model / "config.json", auto_map={})
    put(model, "evil.py")
    put(model, "sub/evil.py")
    folder, own_code = remote_code.for_model(model, {})
    assert not own_code
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_what_changes_after_the_check_does_not_run(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = remote_code.private_copy

    def late(files: Any, name: str) -> Path:
        put(model, "modeling_minimax_m2.py")
        edit(model / "config.json", auto_map={"AutoConfig": "evil.Evil"})
        return made(files, name)

    monkeypatch.setattr(remote_code, "private_copy", late)
    source = Source(MODEL)
    source.path = model
    config = compose(QuantizeConfig, "config", [])
    assert type(bare(source, config.model)).__name__ == "MiniMaxM2ForCausalLM"


def test_a_private_copy_is_nobody_else_s(model: Path) -> None:
    folder, _ = remote_code.for_model(model, PINS)
    again, _ = remote_code.for_model(model, PINS)
    assert folder == again
    assert folder.parents[2].stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("allow", [True, False])
def test_an_engine_is_given_data_and_allowed_code_only(model: Path, tmp_path: Path, allow: bool) -> None:
    for name in ("evil.py", "pytorch_model.bin", "x.pkl", "adapter_config.json", ".hidden", "tiktoken.model"):
        put(model, name, "{}")
    put(model, "additional_chat_templates/tool_use.jinja", "x")
    put(model, "sub/config.json", "{}")
    put(model, "model.safetensors", "weights")
    found = remote_code.read(model)
    code: dict[str, bytes] = {"modeling_minimax_m2.py": b"pinned"} if allow else {}
    remote_code.for_engine(found, code, model, tmp_path / "given", b"{}")
    given = {
        path.relative_to(tmp_path / "given").as_posix()
        for path in (tmp_path / "given").rglob("*")
        if path.is_file()
    }
    assert given == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "chat_template.jinja", "generation_config.json", "model.safetensors.index.json", "model.safetensors",
        "tiktoken.model",
        "additional_chat_templates/tool_use.jinja", *code,
    }  # fmt: skip
    assert (tmp_path / "given/config.json").read_text() == "{}"
    assert not (tmp_path / "given/tokenizer_config.json").is_symlink()


def test_a_relative_import_of_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    model = tmp_path / "importing"
    model.mkdir()
    config = json.loads((MODEL / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "conf.Config"}}))
    pins = {"conf.py": put(model, "conf.py", "from .nowhere import x\nclass Config: ...\n")}
    source = Source(MODEL)
    source.path = model
    wanted = compose(QuantizeConfig, "config", []).model.model_copy(update={"remote_code": pins})
    from proofcard.errors import Stop

    with pytest.raises(Stop, match=r"cannot build a model from its remote code or config\.json: .*nowhere"):
        bare(source, wanted)


def test_one_override_pins_all_of_it_and_can_be_pasted(model: Path) -> None:
    digest = put(model, "sub/tools.py")
    with pytest.raises(Usage) as stop:
        remote_code.for_model(model, {})
    *listed, last = str(stop.value).splitlines()
    assert any(line.startswith(f'  sub/tools.py: "{digest}"  # ') for line in listed)
    (word,) = shlex.split(last.partition(": ")[2])
    made = OverridesParser.create().parse_override(word)
    assert made.key_or_group == "model.remote_code"
    assert made.value() == PINS | {"sub/tools.py": digest}
    remote_code.for_model(model, dict(made.value()))
