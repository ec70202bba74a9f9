"""Bundles and certificates of untrusted form: refused in a sentence, whatever is in them."""

import base64
import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

from proofcard.errors import Stop
from proofcard.signatures import bundle
from proofcard.signatures.content import parts_of
from proofcard.signatures.statement import signed_files, stated
from proofcard.signatures.trust import issuers, public_key

VECTORS = ROOT / "tests" / "signatures" / "vectors"
KEYS = (public_key(VECTORS / "signing-key-pub.pem"), issuers((VECTORS / "ca-cert.pem",)))
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e300,
    "",
    "é",
    "AAAA",
    "a:b:c",
    [],
    {},
    [[]],
    [None],
    {"name": 1},
)


def read(content: bytes) -> None:
    """Everything that is read of a bundle, whoever signed it. Raises Stop alone."""
    found = bundle.parsed(content, "model.sig")
    for trust in KEYS:
        try:
            trust.check(found)
        except Stop as stop:
            assert "\n" not in str(stop)
    parts_of(signed_files(stated(found)))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, each in inner for place in places(each, (*at, name)))]


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one place replaced or removed."""
    *way, last = chance.choice([place for place in places(value) if place])
    inner = value
    for name in way:
        inner = inner[name]
    if chance.random() < 0.3:
        del inner[last]
    else:
        inner[last] = deepcopy(chance.choice(VALUES))
    return value


@pytest.mark.parametrize("name", ["v1.1.0-elliptic-key", "v1.1.0-certificate", "v0.2.0-certificate"])
def test_a_changed_place_is_read_or_refused(name: str) -> None:
    original = (VECTORS / name / "model.sig").read_text()
    chance = random.Random(name)
    refused = 0
    for round in range(300):
        values = json.loads(original)
        if round % 2:
            statement = json.loads(base64.b64decode(values["dsseEnvelope"]["payload"]))
            for _ in range(2):
                statement = changed(statement, chance)
            values["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        else:
            values = changed(values, chance)
        try:
            read(json.dumps(values).encode())
        except Stop:
            refused += 1
    assert 60 < refused < 300


def test_a_changed_byte_of_a_certificate_is_refused() -> None:
    original = json.loads((VECTORS / "v1.1.0-certificate/model.sig").read_text())
    chain = original["verificationMaterial"]["x509CertificateChain"]["certificates"]
    signer = base64.b64decode(chain[0]["rawBytes"])
    for at in range(0, len(signer), 7):
        damaged = bytearray(signer)
        damaged[at] ^= 1 << at % 8
        chain[0]["rawBytes"] = base64.b64encode(damaged).decode()
        with pytest.raises(Stop):
            KEYS[1].check(bundle.parsed(json.dumps(original).encode(), "model.sig"))


def test_a_file_that_is_too_large_or_deep(tmp_path: Path) -> None:
    path = tmp_path / "model.sig"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Stop, match="bytes, but at most"):
        bundle.read(path, tmp_path)
    with pytest.raises(bundle.Malformed, match="nested deeper"):
        read(b'{"a":' * 5000 + b"1" + b"}" * 5000)
