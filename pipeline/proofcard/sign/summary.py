"""What `verify` proved about a checkpoint, as an SLSA verification summary.

Specification: slsa.dev/spec/v1.1/verification_summary.
"""

from typing import Any

from proofcard import __version__
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.evidence import Evidence
from proofcard.files import plain
from proofcard.signatures.statement import exact

VERIFIER = "urn:proofcard:verify"
REPORT = "urn:proofcard:verification"
"""The field with the whole of `verify`'s report: SLSA's own fields have no room for what was counted."""


def summary(sealed: Manifest, manifest_sha256: str, report: Evidence) -> dict[str, Any]:
    """The predicate about a checkpoint whose verification holds.

    Raises:
        Stop: when it differs or could not be checked, or when it is of other bytes than those sealed.
    """
    values = report.values
    if not str(values.get("result")).startswith("verified"):
        raise Stop(
            f"{report.path} has the result {plain(values.get('result'))!r}: verify the checkpoint again, or "
            "move that report away to sign without a summary"
        )
    if values["manifest"].get("sha256") not in (None, manifest_sha256):
        raise Stop(f"{report.path} is of another manifest with the same key: verify the checkpoint again")
    return exact(
        {
            "verifier": {"id": VERIFIER, "version": {"proofcard": __version__}},
            "resourceUri": f"urn:proofcard:key:{sealed.key}",
            "policy": {"uri": f"urn:{report.schema.replace('/', ':')}"},
            "inputAttestations": [{"name": report.path.name, "digest": {"sha256": report.sha256}}],
            "verificationResult": "PASSED",
            "verifiedLevels": [f"PROOFCARD_{name.upper()}" for name in levels(report)],
            REPORT: values,
        }
    )


def levels(report: Evidence) -> list[str]:
    """The levels that hold."""
    found = report.values.get("levels")
    return [
        name
        for name, level in (found.items() if isinstance(found, dict) else ())
        if isinstance(level, dict) and level.get("result") == "holds"
    ]
