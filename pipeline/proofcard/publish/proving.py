"""What is held against a checkpoint before it is published: its levels, and the card."""

import hashlib
from pathlib import Path

from proofcard import json_files
from proofcard import manifest as manifests
from proofcard.config.schema import VerifyConfig
from proofcard.documents.verification import LevelResult, Verification
from proofcard.errors import Stop
from proofcard.evidence import Evidence
from proofcard.files import read_bytes
from proofcard.progress import shown
from proofcard.verify import outcome_of

_NOW = ("integrity", "structure")


def levels(
    checkpoint: Path, source: Path | None, public_key: Path | None, documents: list[Evidence]
) -> dict[str, LevelResult]:
    """Every level that holds: integrity and structure now, weights now or by a verification of this manifest.

    With `public_key`, the signature now, too.

    Raises:
        Stop: when a level differs or could not be checked, or nobody has shown that the weights follow.
    """
    asked = [
        *_NOW,
        *(["weights"] if source is not None else []),
        *(["signature"] if public_key is not None else []),
    ]
    given = {"checkpoint": checkpoint, "source": source, "public_key": public_key}
    outcome, _ = outcome_of(VerifyConfig.model_validate(given | {"levels": asked, "report": None}))
    if outcome.result != "verified":
        raise Stop(f"{shown(checkpoint)} does not verify, so it is not published: {_why(outcome)}")
    found: dict[str, LevelResult] = {name: outcome.levels[name].result for name in asked}
    earlier = _earlier(checkpoint, documents)
    if source is None and earlier.get("weights") != "holds":
        raise Stop(
            f"nothing shows that the weights of {shown(checkpoint)} follow from their source: give "
            f"source=DIR, or run proofcard verify checkpoint={shown(checkpoint)} source=DIR first"
        )
    return earlier | found


def manifest_sha256(checkpoint: Path) -> str:
    """The digest of the manifest's file."""
    content = read_bytes(checkpoint / manifests.NAME, checkpoint, json_files.TABLE)
    return hashlib.sha256(content).hexdigest()


def _earlier(checkpoint: Path, documents: list[Evidence]) -> dict[str, LevelResult]:
    """The levels that hold by a verification of this very manifest."""
    for one in documents:
        seal = one.values.get("manifest")
        if one.kind == "verification" and isinstance(seal, dict):
            by_level = one.values.get("levels")
            if seal.get("sha256") == manifest_sha256(checkpoint) and isinstance(by_level, dict):
                return {
                    name: "holds"
                    for name, each in by_level.items()
                    if isinstance(each, dict) and each.get("result") == "holds"
                }
    return {}


def _why(outcome: Verification) -> str:
    """The first difference, or why a level could not be checked."""
    for name, level in outcome.levels.items():
        if level.differences.total:
            first = level.differences.listed[0]
            return f"{name} differs: {first.tensor or first.file or 'the checkpoint'}: {first.message}"
    unchecked = [(name, level) for name, level in outcome.levels.items() if level.unchecked.total]
    return (
        f"{unchecked[0][0]} could not be checked: {unchecked[0][1].unchecked.listed[0]}" if unchecked else "?"
    )
