"""Settings files with anything in them: each command takes them or says in a sentence why not."""

import io
import json
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile_folders import TAKERS
from verify.making import Verified, make_checkpoint, make_source, reseal

from proofcard import manifest
from proofcard.errors import Stop

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.sampled_from([1 << 40, 10**18, 10**30, -(10**18)])
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["fp8", "modelopt", "NVFP4", "FP8", "*", "[bold", "\n", "\x1b[2J", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = (
    "quantization_config", "tie_word_embeddings", "num_hidden_layers", "num_local_experts", "text_config",
    "num_nextn_predict_layers", "vocab_size", "architectures", "auto_map", "num_attention_heads",
    "num_key_value_heads", "hidden_size", "max_position_embeddings", "model_type", "num_experts_per_tok",
    "intermediate_size",
)  # fmt: skip
QUANTIZATION = (
    "quant_method", "quant_algo", "weight_block_size", "kv_cache_scheme", "ignore", "config_groups",
    "producer", "quantization", "exclude_modules", "kv_cache_quant_algo", "group_size",
)  # fmt: skip
PARTS = st.dictionaries(st.sampled_from(QUANTIZATION), VALUES, max_size=4)
CHANGES = st.dictionaries(st.sampled_from(KEYS), VALUES | PARTS, max_size=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("fuzzed")
    make_source(folder / "source")
    make_checkpoint(folder / "model", folder / "source")
    return folder


def written(path: Path, whole: Any) -> None:
    path.write_text(json.dumps(whole), encoding="utf-8")


@given(changes=CHANGES, inside=st.booleans())
@settings(max_examples=60)
def test_any_config(made: Path, changes: dict[str, Any], inside: bool) -> None:
    for name, commands in (
        ("source", ("quantize", "plan", "serve")),
        ("model", ("plan", "serve", "compare")),
    ):
        path = made / name / "config.json"
        was = path.read_text()
        said = json.loads(was)
        more = {"num_attention_heads": 4, "max_position_embeddings": 64, "architectures": ["X"]}
        if inside and isinstance(changes.get("quantization_config"), dict):
            changes["quantization_config"] = said["quantization_config"] | changes["quantization_config"]
        written(path, said | more | {"num_experts_per_tok": 2} | changes)
        try:
            for command in commands:
                with suppress(Stop):
                    TAKERS[command](made / name)
            with redirect_stderr(io.StringIO()):
                found = Verified(made / "model", made / "source", ("structure",))
            assert found.status in (0, 1, 2)
            assert "\x1b" not in found.screen
        finally:
            path.write_text(was)


@given(
    changes=PARTS, outer=st.dictionaries(st.sampled_from(["producer", "quantization"]), VALUES, max_size=2)
)
@settings(max_examples=40)
def test_any_quantization(made: Path, changes: dict[str, Any], outer: dict[str, Any]) -> None:
    path = made / "model" / "hf_quant_config.json"
    was = path.read_text()
    said = json.loads(was)
    written(path, said | {"quantization": said["quantization"] | changes} | outer)
    try:
        with suppress(Stop):
            TAKERS["serve"](made / "model")
        with redirect_stderr(io.StringIO()):
            assert Verified(made / "model", None, ("structure",)).status in (0, 1, 2)
    finally:
        path.write_text(was)


FIELDS = st.sampled_from([*manifest._FIELDS, "outputs.files", "outputs.tensors", "outputs.files.x", "seal"])


@given(field=FIELDS, value=VALUES, sealed=st.booleans())
@settings(max_examples=75)
def test_any_manifest(made: Path, field: str, value: Any, sealed: bool) -> None:
    """As it would be written, and with a true seal over it."""
    folder = made / "model"
    reseal(folder, made / "source")
    body = json.loads((folder / manifest.NAME).read_text())
    *above, last = field.split(".")
    place = body
    for key in above:
        place = place[key]
    place[last] = value
    with suppress(ValueError):  # NaN cannot be sealed
        if sealed and field != "seal":
            del body["seal"]
            (folder / manifest.NAME).write_text(manifest.seal(body), encoding="utf-8")
        else:
            written(folder / manifest.NAME, body)
    with suppress(Stop):
        manifest.read(folder)
    for command in ("compare", "analyse"):
        with suppress(Stop):
            TAKERS[command](folder)
    with redirect_stderr(io.StringIO()):
        assert Verified(folder, None, ("integrity",)).status in (0, 1, 2)
