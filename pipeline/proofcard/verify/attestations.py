"""Level `signature`: the signed statements beside a checkpoint, held to its files and its manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.documents.manifest import Manifest
from proofcard.files import plain
from proofcard.signatures import names
from proofcard.signatures.provenance import provenance
from proofcard.signatures.statement import BOM, PROVENANCE, SUMMARY, Signed, Statement

_KINDS = {names.PROVENANCE: PROVENANCE, names.SUMMARY: SUMMARY, names.SIGNED_BOM: BOM}


def differences(stated: Statement, folder: Path, sealed: Manifest, signed: Signed) -> Iterator[str]:
    """Sentences on what a statement has that its checkpoint has not. Its signature was checked before.

    Raises:
        Stop: when the bill of materials beside it cannot be read.
    """
    if stated.predicate_type != _KINDS[stated.name]:
        yield f"it is a statement of kind {plain(stated.predicate_type)!r}, not {_KINDS[stated.name]}"
        return
    if not isinstance(stated.predicate, dict):
        yield "it states nothing"
        return
    if stated.subjects != signed.digests:
        other = sorted(
            name
            for name in stated.subjects.keys() | signed.digests.keys()
            if stated.subjects.get(name) != signed.digests.get(name)
        )
        yield (
            f"it is about other files than {names.MODEL}: {plain(other[0])}"
            f"{f' and {len(other) - 1} more' if len(other) > 1 else ''}"
        )
        return
    check = {names.PROVENANCE: _provenance, names.SUMMARY: _summary, names.SIGNED_BOM: _bom}[stated.name]
    yield from check(stated.predicate, folder, sealed)


def _provenance(predicate: dict[str, Any], folder: Path, sealed: Manifest) -> Iterator[str]:
    """Everything but who built it follows from the manifest."""
    builder = _at(predicate, "runDetails", "builder", "id")
    if not isinstance(builder, str):
        yield "it names no builder"
        return
    where = _first(provenance(sealed, builder), predicate, "")
    if where is not None:
        yield f"its {plain(where)} is not what manifest.json says"


def _summary(predicate: dict[str, Any], folder: Path, sealed: Manifest) -> Iterator[str]:
    """It is about this key, and passes what its own report says holds."""
    if predicate.get("resourceUri") != f"urn:proofcard:key:{sealed.key}":
        yield f"it is about {plain(predicate.get('resourceUri'))}, not the checkpoint {sealed.key[:12]}"
    if predicate.get("verificationResult") != "PASSED":
        yield f"its result is {plain(predicate.get('verificationResult'))}, not PASSED"
    report = _at(predicate, "urn:proofcard:verification", "levels")
    held = {
        f"PROOFCARD_{name.upper()}"
        for name, level in (report.items() if isinstance(report, dict) else ())
        if _at(level, "result") == "holds"
    }
    claimed = predicate.get("verifiedLevels")
    if not isinstance(claimed, list) or {str(each) for each in claimed} != held:
        yield "the levels that it claims are not those that its report says hold"


def _bom(predicate: dict[str, Any], folder: Path, sealed: Manifest) -> Iterator[str]:
    """It is what lies beside it unsigned, and names this key."""
    if _at(predicate, "metadata", "component", "bom-ref") != f"urn:proofcard:key:{sealed.key}":
        yield f"it is not the bill of materials of the checkpoint {sealed.key[:12]}"
    try:
        beside = json_files.read(folder / names.BOM, folder)
    except FileNotFoundError:
        return
    where = _first(predicate, beside, "")
    if where is not None:
        yield f"{names.BOM} was altered: its {plain(where)} is not what was signed"


def _first(expected: Any, found: Any, where: str) -> str | None:
    """The dotted name of the first value that differs, in the order of names; `content` at the top."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            if key not in expected or key not in found:
                return f"{where}{key}"
            if (inner := _first(expected[key], found[key], f"{where}{key}.")) is not None:
                return inner
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return next((i for n, (a, b) in pairs if (i := _first(a, b, f"{where}{n}.")) is not None), None)
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else where.rstrip(".") or "content"


def _at(values: Any, *path: str) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values
