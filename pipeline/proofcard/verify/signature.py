"""Level `signature`: every file is one that the right key has signed, and the signed statements agree.

The base package does all of it, but for Sigstore identities. Files are read here again, whatever other levels
have read: what was signed is held to the bytes that are there.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proofcard import manifest
from proofcard.beside_seal import may_lie_beside
from proofcard.config.schema import VerifyConfig
from proofcard.digest import all_files
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage, one_line
from proofcard.extras import require
from proofcard.files import Refused, Unreadable, located, plain
from proofcard.progress import Bar
from proofcard.signatures import bundle, names
from proofcard.signatures.content import ALGORITHMS, Part, digest_of, parts_of
from proofcard.signatures.statement import Signed, signed_files, stated
from proofcard.signatures.trust import Trust, issuers, public_key
from proofcard.verify.attestations import differences
from proofcard.verify.integrity import Seal
from proofcard.verify.report import Finding, Level

_MIB = 1 << 20


def trusted(config: VerifyConfig) -> Trust | None:
    """Whose signature is asked for, or nobody's.

    Raises:
        Usage: when the key, certificate or identity cannot be used, or there are several.
    """
    given = [
        config.public_key is not None,
        bool(config.certificate_chain),
        config.signed_by is not None or config.identity_provider is not None,
    ]
    if sum(given) > 1:
        raise Usage(
            "give one of public_key=FILE, certificate_chain=[FILE] and signed_by=… identity_provider=…"
        )
    if config.public_key is not None:
        return public_key(config.public_key)
    if config.certificate_chain:
        return issuers(config.certificate_chain)
    if not any(given):
        return None
    if config.signed_by is None or config.identity_provider is None:
        raise Usage("a Sigstore signature needs both signed_by=… and identity_provider=URL")
    require("signed_by", "sign", "; or check a key's signature with public_key=FILE")
    from proofcard.signatures.identity import Identity

    return Identity(config.signed_by, config.identity_provider)


def check(folder: Path, seal: Seal, trust: Trust, signature: Path | None, threads: int) -> Level:
    """Hold the signature to the key, the files of `folder` to the signature, and the statements to both."""
    level = Level("signature")
    path = signature or folder / names.MODEL
    try:
        signed = _signed(path, None if signature else folder, trust)
        parts = parts_of(signed)
    except FileNotFoundError:
        level.add(Finding("missing", "it is not signed, or its signature was removed", file=path.name))
        return level
    except (Unreadable, Refused) as error:
        level.unchecked.append(one_line(error, checkpoint=folder))
        return level
    except Stop as error:
        level.add(Finding("mismatched", one_line(error, checkpoint=folder), file=path.name))
        return level
    if signed.algorithm not in ALGORITHMS:
        level.unchecked.append(
            f"{path.name} has {plain(signed.algorithm)} digests, and this program computes only "
            f"{', '.join(ALGORITHMS)}"
        )
        return level
    level.notes.append(f"signed by {trust.named()}")
    _check_files(level, folder, seal, signed, parts, threads)
    if not level.findings and not level.unchecked and seal.body is not None:
        _check_statements(level, folder, seal.body, signed, trust)
    return level


def _signed(path: Path, root: Path | None, trust: Trust) -> Signed:
    """The list of signed files, once its signature is the right one."""
    read = bundle.read(path, root)
    trust.check(read)
    return signed_files(stated(read))


def _check_files(
    level: Level, folder: Path, seal: Seal, signed: Signed, parts: dict[str, list[Part]], threads: int
) -> None:
    """Find files that are missing, extra or not as they were signed."""
    if "." in parts:
        level.add(
            Finding("mismatched", "it is the signature of a single file, not of a folder", file=names.MODEL)
        )
        return
    here = {path.relative_to(folder).as_posix(): path for path in all_files(folder)}
    if (other := _other_checkpoint(folder, seal, signed, parts)) is not None:
        level.add(other)
        return
    must = {*seal.body.outputs.files, manifest.NAME} if seal.body is not None else set()
    for name in sorted(must - parts.keys()):
        if name in here and (signed.method == "files" or here[name].stat().st_size):
            level.add(Finding("extra", "it is sealed, but was not signed", file=name))
    for name in sorted(parts.keys() - here.keys()):
        level.add(Finding("missing", "it was signed and is not there", file=name))
    for name in sorted(here.keys() - parts.keys() - must):
        if not _is_beside(name, folder) and not _is_empty_shard(here[name], signed):
            level.add(Finding("extra", "it was not signed, and may not lie beside what was", file=name))
    _check_bytes(level, folder, signed, {name: parts[name] for name in parts if name in here}, threads)


def _is_beside(name: str, folder: Path) -> bool:
    """Whether a file may lie beside signed ones: by its name, and a link only if it stays inside."""
    try:
        located(folder / name, folder)
    except (Stop, OSError):
        return False
    return may_lie_beside(name)


def _is_empty_shard(path: Path, signed: Signed) -> bool:
    """A signature over shards does not list files of no bytes."""
    return signed.method == "shards" and path.is_file() and path.stat().st_size == 0


def _other_checkpoint(
    folder: Path, seal: Seal, signed: Signed, parts: dict[str, list[Part]]
) -> Finding | None:
    """The finding that a valid manifest is here and another one was signed."""
    if seal.body is None or manifest.NAME not in parts:
        return None
    here = _digest(folder, manifest.NAME, parts[manifest.NAME], signed)
    if here == [part.digest for part in parts[manifest.NAME]]:
        return None
    return Finding(
        "mismatched",
        f"it is the signature of another checkpoint: the {manifest.NAME} that it signs is not the one here, "
        f"of {seal.body.key[:12]}",
        file=names.MODEL,
        expected=",".join(part.digest for part in parts[manifest.NAME])[:200],
        found=",".join(here)[:200],
    )


def _check_bytes(
    level: Level, folder: Path, signed: Signed, parts: dict[str, list[Part]], threads: int
) -> None:
    """Hash every signed file, several at a time."""
    sizes: dict[str, int] = {}
    for name in sorted(parts):
        try:
            sizes[name] = located(folder / name, folder).stat().st_size
        except Refused as error:
            level.add(Finding("missing", one_line(error, checkpoint=folder), file=name))
        except (Unreadable, OSError) as error:
            level.unchecked.append(f"{name}: {one_line(error, checkpoint=folder)}")
    read = 0
    with Bar("signature", -(-sum(sizes.values()) // _MIB), "MiB") as bar:

        def compare(name: str) -> Finding | str | None:
            try:
                return _compare(folder, name, sizes[name], parts[name], signed)
            except (Unreadable, Refused, OSError) as error:
                return f"{name}: {one_line(error, checkpoint=folder)}"

        pool = ThreadPoolExecutor(threads)
        try:
            for name, found in zip(sizes, pool.map(compare, sizes), strict=True):
                bar.advance((read + sizes[name]) // _MIB - read // _MIB)
                read += sizes[name]
                if isinstance(found, str):
                    level.unchecked.append(found)
                elif found is not None:
                    level.add(found)
        finally:
            pool.shutdown(cancel_futures=True)
    level.counts.update(files=len(sizes), bytes=read)


def _compare(folder: Path, name: str, size: int, parts: list[Part], signed: Signed) -> Finding | None:
    if parts[0].end is not None and not _is_whole(parts, size):
        return Finding("mismatched", f"it has {size} bytes; other ranges of it were signed", file=name)
    found = _digest(folder, name, parts, signed)
    for part, digest in zip(parts, found, strict=True):
        if part.digest != digest:
            where = "" if part.end is None else f" in bytes {part.start} to {part.end - 1}"
            return Finding(
                "mismatched",
                f"it is not what was signed{where}",
                file=name,
                expected=part.digest,
                found=digest,
            )
    return None


def _digest(folder: Path, name: str, parts: list[Part], signed: Signed) -> list[str]:
    return [digest_of(folder / name, folder, signed.algorithm, part) for part in parts]


def _is_whole(parts: list[Part], size: int) -> bool:
    """Whether ranges follow one another from the first byte to the last."""
    ends = [0, *(part.end for part in parts)]
    return ends[-1] == size and [part.start for part in parts] == ends[:-1]


def _check_statements(level: Level, folder: Path, sealed: Manifest, signed: Signed, trust: Trust) -> None:
    """Hold each signed statement beside the checkpoint to the key, the files and the manifest."""
    absent = []
    for name in names.ATTESTATIONS:
        try:
            read = bundle.read(folder / name, folder)
        except FileNotFoundError:
            absent.append(name)
            continue
        except Stop as error:
            level.add(Finding("mismatched", one_line(error, checkpoint=folder), file=name))
            continue
        try:
            trust.check(read)
            found = list(differences(stated(read), folder, sealed, signed))
        except Stop as error:
            found = [one_line(error, checkpoint=folder)]
        level.add(*(Finding("mismatched", why, file=name) for why in found))
        level.counts["statements"] += 1
    if absent:
        level.notes.append(f"not there, so not checked: {', '.join(absent)}")
