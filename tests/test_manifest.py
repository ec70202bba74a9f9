"""A manifest reads back only when every byte of it is what was sealed."""

import math
from pathlib import Path
from typing import Any

import pytest

from proofcard import manifest
from proofcard.digest import sha256_json


def body(**changed: Any) -> dict[str, Any]:
    said = {
        "schema": manifest.SCHEMA, "stage": "quantize", "key": "0" * 64, "config": {"größe": [1, None]},
        "seeds": {"torch": 1}, "inputs": {}, "outputs": {"files": {}, "tensors": {}}, "toolchain": {},
        "platform": {}, "statistics": {"ratio": 0.5},
    }  # fmt: skip
    return said | changed


def test_it_reads_back(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(manifest.seal(body()), encoding="utf-8")
    values = manifest.read(tmp_path).values()
    assert values == body() | {"seal": sha256_json(body())}


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / manifest.NAME
    sealed = manifest.seal(body()).encode()
    for position in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(manifest.ManifestError):
                manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"seal": 1}', "\xff", '"seal"', "[1]"])
def test_what_is_no_manifest_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / manifest.NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(manifest.ManifestError):
        manifest.read(tmp_path)


def test_an_unsealed_folder(tmp_path: Path) -> None:
    with pytest.raises(manifest.ManifestError, match="never sealed"):
        manifest.read(tmp_path)


def test_another_schema_is_named(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(
        manifest.seal(body(schema="proofcard/manifest/9")), encoding="utf-8"
    )
    with pytest.raises(manifest.ManifestError, match="proofcard/manifest/9"):
        manifest.read(tmp_path)


def test_fields_are_the_schema_s() -> None:
    with pytest.raises(ValueError, match="host"):
        manifest.seal(body(host="here"))
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.seal(body(statistics={"amax": math.nan}))


def test_a_key_does_not_depend_on_the_order_of_its_parts() -> None:
    one = manifest.key_of("s", {"a": 1, "b": 2}, {}, {})
    assert one == manifest.key_of("s", {"b": 2, "a": 1}, {}, {})
    assert one != manifest.key_of("t", {"a": 1, "b": 2}, {}, {})
