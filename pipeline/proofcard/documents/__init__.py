"""Typed, versioned documents: what a stage or a command leaves behind. No times, hosts or paths."""

from proofcard.documents.base import Document, Sha256
from proofcard.documents.manifest import FileEntry, Manifest, Outputs, TensorEntry
from proofcard.documents.reproduction import Reproduction

__all__ = ["Document", "FileEntry", "Manifest", "Outputs", "Reproduction", "Sha256", "TensorEntry"]
