"""Reads what a folder contains now, every byte of it, without relying on a manifest."""

from dataclasses import dataclass
from pathlib import Path

from proofcard import manifest
from proofcard.checkpoint.tensors import Tensor, digests, read_folder
from proofcard.cores import side_by_side
from proofcard.digest import all_files
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.progress import Bar


@dataclass(frozen=True)
class Content:
    """A checkpoint's tensors by name, their sha256, and the sha256 of every file, as read."""

    tensors: dict[str, Tensor]
    tensor_sha256: dict[str, str]
    file_sha256: dict[str, str]

    def others(self) -> dict[str, str]:
        """The sha256 of the files without weights, except manifest.json."""
        return {
            name: sha256
            for name, sha256 in self.file_sha256.items()
            if not name.endswith(".safetensors") and name != manifest.NAME
        }

    def altered(self, sealed: Manifest) -> list[str]:
        """The files in a manifest that are altered or missing."""
        files = sealed.outputs.files
        return [name for name in sorted(files) if self.file_sha256.get(name) != files[name].sha256]


def read(folder: Path) -> Content:
    """Read every visible file of a checkpoint once, using all cores.

    Raises:
        Stop: when it is not a checkpoint, or a file cannot be read.
    """
    tensors = read_folder(folder)
    inside: dict[Path, list[Tensor]] = {}
    for tensor in tensors.values():
        inside.setdefault(tensor.path, []).append(tensor)
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in all_files(folder)
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    try:
        with Bar("reading", len(paths), "files") as bar:
            files: dict[str, str] = {}
            each: dict[str, str] = {}
            read_one = side_by_side(lambda path: digests(path, inside.get(path, [])), paths.values())
            for name, (whole, of_tensors) in zip(paths, read_one, strict=True):
                files[name] = whole
                each.update(of_tensors)
                bar.advance()
    except OSError as error:
        raise Stop(f"{folder} cannot be read: {error}") from None
    return Content(tensors, each, files)
