"""The files that `sign` leaves beside the sealed content."""

MODEL = "model.sig"
"""The signature over every sealed file and the manifest."""

PROVENANCE = "provenance.sigstore.json"
"""What it was made from, by what and how (SLSA provenance), signed."""

SUMMARY = "verification.sigstore.json"
"""What `verify` proved (SLSA verification summary), signed."""

BOM = "bom.cdx.json"
"""The bill of materials (CycloneDX), for scanners that read it as it is."""

SIGNED_BOM = "bom.sigstore.json"
"""The bill of materials, signed."""

ATTESTATIONS = (PROVENANCE, SUMMARY, SIGNED_BOM)
ALL = (MODEL, *ATTESTATIONS, BOM)
