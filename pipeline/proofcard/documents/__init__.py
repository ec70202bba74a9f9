"""Typed, versioned documents: what a stage or a command leaves behind, a module each.

Documents about a checkpoint hold no times, hosts or paths: the same work gives the same bytes.
"""

from proofcard.documents.base import Document, Sha256, read
from proofcard.documents.manifest import FileEntry, Manifest, Outputs, TensorEntry
from proofcard.documents.verification import Verification

__all__ = ["Document", "FileEntry", "Manifest", "Outputs", "Sha256", "TensorEntry", "Verification", "read"]
