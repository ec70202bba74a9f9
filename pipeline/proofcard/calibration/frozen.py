"""A sealed sample set used again: no dataset is read, and the keys are those of the run that drew it."""

import hashlib
from pathlib import Path
from typing import Any

from proofcard import files, manifest, stage
from proofcard.beside_seal import may_lie_beside
from proofcard.calibration.batches import read_index, read_samples
from proofcard.config.compose import flatten
from proofcard.config.schema import Calibration
from proofcard.digest import all_files, is_sealed, sha256_file
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop


def described(calibration: Calibration, config: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """What the set says that decided it, as `stage.describe` says it of a set to be drawn.

    Raises:
        Stop: when the set is not intact, not the pinned one, or not one of this configuration and tokenizer.
    """
    assert calibration.frozen is not None
    folder = calibration.frozen
    body = intact(folder)
    digest = sha256_file(folder / manifest.NAME)
    if calibration.frozen_sha256 not in (None, digest):
        raise Stop(f"calibration.frozen={folder} is not the pinned set: its {manifest.NAME} has {digest}")
    drawn = {"order": _order(folder)} | body.config  # sets of earlier versions do not name it
    ours, theirs = flatten(config), flatten(drawn)
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if different:
        key = different[0]
        raise Stop(
            f"calibration.frozen={folder} was drawn with {key}={theirs.get(key)}, the recipe says "
            f"{ours.get(key)}: set calibration.{key}={theirs.get(key)}, or draw anew"
        )
    if body.inputs["tokenizer"] != tokenizer:
        raise Stop(f"calibration.frozen={folder} was tokenized with another tokenizer than the model's")
    toolchain = {key: value for key, value in body.toolchain.items() if key != "lock"}
    return {"config": body.config, "inputs": body.inputs, "toolchain": toolchain}


def _order(folder: Path) -> list[Any]:
    """The datasets of a set in the order of its samples."""
    return list(dict.fromkeys(record.get("dataset") for record in read_index(folder)))


def copied(folder: Path, final: Path) -> Manifest:
    """The set at `final`, byte for byte; returns its manifest."""

    def make(partial: Path) -> Manifest:
        for name in [*manifest.read(folder).outputs.files, manifest.NAME]:
            files.copied(folder / name, folder, partial / name)
        body = intact(partial)
        stage.name(partial, final)
        return body

    return stage.once(final, manifest.read(folder).key, make)


def intact(folder: Path) -> Manifest:
    """The manifest of a set in which every byte is what was sealed, and every sample what the index says."""
    body = manifest.read(folder)
    where = f"calibration.frozen={folder}"
    if body.stage != "samples":
        raise Stop(f"{where} is a sealed {body.stage}, no sample set")
    sealed = body.outputs.files
    names = {file.relative_to(folder).as_posix(): file for file in all_files(folder)}
    standing = {name: file for name, file in names.items() if name in sealed or not may_lie_beside(name)}
    del standing[manifest.NAME]
    for name in sorted(standing.keys() | sealed.keys()):
        path, entry = standing.get(name), sealed.get(name)
        if path is None or entry is None or not is_sealed(path, folder, entry.size, entry.sha256):
            raise Stop(f"{where}: {files.plain(name)} is not what was sealed")
    digests = [hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest() for ids in read_samples(folder)]
    if digests != [record.get("tokens_sha256") for record in read_index(folder)]:
        raise Stop(f"{where}: its tokens are not those of its index")
    return body
