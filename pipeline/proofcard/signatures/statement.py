"""In-toto statements, and the one in which model-signing lists a model's files.

Statement: github.com/in-toto/attestation, spec/v1/statement.md. The list of files: model-signing's predicates
https://model_signing/signature/v1.0 and, written before its version 1.0, https://model_signing/Digests/v0.1.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proofcard import json_files
from proofcard.files import plain
from proofcard.signatures.bundle import IN_TOTO, Bundle, Malformed

STATEMENT = "https://in-toto.io/Statement/v1"
MODEL = "https://model_signing/signature/v1.0"
PROVENANCE = "https://slsa.dev/provenance/v1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
BOM = "https://cyclonedx.org/bom"
_MODEL_BEFORE_1_0 = "https://model_signing/Digests/v0.1"
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_SHARDED = re.compile(r"-sharded-\d+\Z")  # the size of the ranges, which their names have too
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Statement:
    """What a bundle states: the sha256 of each subject by name, and a predicate about them."""

    name: str
    subjects: dict[str, str]
    predicate_type: str
    predicate: Any


@dataclass(frozen=True)
class Signed:
    """The files that a model's signature lists: digests by name, or by `name:start:end` for `shards`."""

    digests: dict[str, str]
    algorithm: str
    method: str


def stated(bundle: Bundle) -> Statement:
    """The in-toto statement in a bundle. Check its signature first.

    Raises:
        Malformed: when the payload is something else, or a subject has no sha256.
    """
    if bundle.payload_type != IN_TOTO:
        raise Malformed(
            f"{bundle.name} signs a payload of type {plain(bundle.payload_type)!r}, not an in-toto statement"
        )
    try:
        values = json_files.parse(bundle.payload, f"the statement in {bundle.name}", unique=True)
    except json_files.JsonError as error:
        raise Malformed(str(error)) from None
    if not isinstance(values, dict) or values.get("_type") != STATEMENT:
        raise Malformed(f"{bundle.name} does not state anything in the form of {STATEMENT}")
    subjects: dict[str, str] = {}
    for each in _list(values.get("subject"), bundle.name, "subject"):
        name, digest = each.get("name"), each.get("digest")
        sha256 = digest.get("sha256") if isinstance(digest, dict) else None
        if not isinstance(name, str) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise Malformed(f"{bundle.name} has a subject without a name or a sha256")
        if name in subjects:
            raise Malformed(f"{bundle.name} names the subject {plain(name)!r} twice")
        subjects[name] = sha256
    kind = values.get("predicateType")
    return Statement(bundle.name, subjects, kind if isinstance(kind, str) else "", values.get("predicate"))


def signed_files(statement: Statement) -> Signed:
    """The files that a model's signature is over.

    Raises:
        Malformed: for a statement of another kind, one whose list of files does not hash to its subject, or
            one that lists a file twice.
    """
    name = statement.name
    if statement.predicate_type == _MODEL_BEFORE_1_0:
        return Signed(dict(statement.subjects), "sha256", "files")
    if statement.predicate_type != MODEL:
        raise Malformed(
            f"{name} is a statement of kind {plain(statement.predicate_type)!r}, not the signature of a model"
        )
    if not isinstance(statement.predicate, dict):
        raise Malformed(f"{name} has no list of files")
    serialization = statement.predicate.get("serialization")
    if not isinstance(serialization, dict):
        raise Malformed(f"{name} does not say how the files were hashed")
    digests: dict[str, str] = {}
    algorithms = set()
    for each in _list(statement.predicate.get("resources"), name, "resources"):
        file, digest, algorithm = each.get("name"), each.get("digest"), each.get("algorithm")
        if not isinstance(file, str) or not isinstance(digest, str) or not isinstance(algorithm, str):
            raise Malformed(f"{name} lists a file without a name, an algorithm or a digest")
        if not _HEX.fullmatch(digest):
            raise Malformed(f"{name} has a digest of {plain(file)!r} that is not hexadecimal")
        if file in digests:
            raise Malformed(f"{name} lists {plain(file)!r} twice")
        digests[file] = digest
        algorithms.add(_SHARDED.sub("", algorithm))
    if len(algorithms) > 1:
        raise Malformed(f"{name} mixes digests of several algorithms: {plain(', '.join(sorted(algorithms)))}")
    if list(statement.subjects.values()) != [root_digest(digests.values())]:
        raise Malformed(f"{name} contradicts itself: its list of files does not hash to its subject")
    algorithm = algorithms.pop() if algorithms else "sha256"
    return Signed(digests, algorithm, str(serialization.get("method")))


def root_digest(digests: Iterable[str]) -> str:
    """Model-signing's digest of a model: sha256 over the digests of its files, in the order of the list."""
    return hashlib.sha256(b"".join(bytes.fromhex(each) for each in digests)).hexdigest()


def _list(value: Any, name: str, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Malformed(f"{name} has no list of {key}")
    return value


def exact(value: Any) -> Any:
    """A JSON value without numbers that a reader with 64-bit floats, such as protobuf's, would change."""
    if isinstance(value, Mapping):
        return {str(key): exact(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [exact(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1 << 53:
        return str(value)
    return value
