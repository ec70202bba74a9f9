"""JSON of others: one object, taken one way only, within limits."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hostile_files import JSONS, bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from proofcard import json_files
from proofcard.errors import Stop
from proofcard.json_files import JsonError, parse, read


@pytest.mark.parametrize("what", JSONS)
def test_it_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / "config.json"
    JSONS[what](path)
    with bounded(), pytest.raises(Stop) as stopped:
        read(path, tmp_path)
    assert "config.json" in str(stopped.value)
    assert str(stopped.value).isprintable() and len(str(stopped.value)) < 700


def test_what_models_really_have_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"time_step_limit": [0.0, Infinity], "model_max_length": 1%030d}' % 0)
    assert read(path, tmp_path, infinite=True)["model_max_length"] == 10**30
    with pytest.raises(JsonError, match="Infinity is not a number"):
        read(path, tmp_path)
    path.write_bytes('{"a": "\\ud83d\\ude00 ü", "b": 1, "b": 1}'.encode())
    assert read(path, tmp_path) == {"a": "😀 ü", "b": 1}
    path.write_bytes(b"[" * 64 + b"]" * 64)
    assert parse(path.read_bytes(), "it")


def test_a_number_too_large_for_a_float_is_refused_where_infinity_is(tmp_path: Path) -> None:
    with pytest.raises(JsonError, match="1e999 is too large for a number"):
        parse(b'{"a": 1e999}', "it")


def test_the_limit_is_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": "x" * 100}))
    size = path.stat().st_size
    assert read(path, tmp_path, limit=size)
    with pytest.raises(Stop, match=rf"has {size} bytes, but at most {size - 1} are allowed"):
        read(path, tmp_path, limit=size - 1)


def test_letters_outside_ascii_are_counted_with_the_memory_that_they_take() -> None:
    content = json.dumps({"a": "x" * (70 << 20)}).encode()
    assert parse(content, "it")
    with bounded(), pytest.raises(JsonError, match="is too large to be read"):
        parse(content.replace(b"x}", "😀}".encode()).replace(b'x"', '😀"'.encode()), "it")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
TEXTS = VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@given(TEXTS, st.integers(0, 2**32))
@settings(max_examples=250)
def test_any_bytes_are_a_value_or_a_sentence(content: bytes, seed: int) -> None:
    """JSON, JSON with some bytes exchanged, and bytes: what is taken is what the library takes."""
    some = random.Random(seed)
    changed = bytearray(content)
    for _ in range(some.randrange(3)):
        if changed:
            changed[some.randrange(len(changed))] = some.choice(b'{}[]",:0e-\\u\xff\x00')
    value: Any = None
    try:
        value = parse(bytes(changed), "it", infinite=some.random() < 0.5)
    except JsonError as error:
        assert str(error).isprintable()
        return
    assert json.dumps(json.loads(changed)) == json.dumps(value)
    json.dumps(value, ensure_ascii=False).encode()


def test_the_limits_leave_room_for_the_largest_models() -> None:
    """A manifest of Kimi K2 in NVFP4: 276,000 tensors, 350 bytes and 12 parts each."""
    assert json_files.TABLE > 1.2 * 276_000 * 350
    assert json_files._PARTS > 1.2 * 276_000 * 12
