"""Signs a sealed checkpoint: its files, and statements on what it was made from and what was proved."""

import tempfile
from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard import manifest as manifests
from proofcard.beside_seal import may_lie_beside
from proofcard.config.signing import SignConfig
from proofcard.digest import all_files, sha256_file
from proofcard.disk import check_writable, write_whole
from proofcard.documents.manifest import Manifest
from proofcard.documents.signing import SignedFile, Signing
from proofcard.errors import Stop, before_work
from proofcard.evidence import Evidence, checkpoint_of, gathered
from proofcard.files import plain
from proofcard.pasted import command
from proofcard.progress import shown
from proofcard.sign import bom, keys, summary
from proofcard.sign.signer import Signer
from proofcard.signatures import bundle, names, statement
from proofcard.signatures.provenance import provenance

_BESIDE = ("README.md", "README.html", ".gitattributes", ".gitignore", ".eval_results", ".proofcard")
"""What may be written after signing: `model_signing verify` is to accept the checkpoint then too."""

_NOT_VERIFIED = "a verification summary: there is no report of `proofcard verify` yet; sign again after it"


def sign(config: SignConfig) -> Signing:
    """Sign a checkpoint, and write the signatures beside its sealed files. Returns what was written.

    Raises:
        Usage: when there is no such checkpoint, or the key cannot be used; nothing was written then.
        Stop: when a file is not as it was sealed, or the signer does not answer.
    """
    with before_work():
        sealed = checkpoint_of(config.checkpoint)
        folder = config.checkpoint.resolve()
        check_writable(folder)
        ignored = _ignored(folder, sealed)
        if config.create_key and config.key is not None and not config.key.exists():
            keys.create(config.key, keys.password(config.password_file))
        signer = Signer(config)
        report = _verification(config, sealed)
    with tempfile.TemporaryDirectory(prefix="proofcard-sign-") as scratch:
        made = Path(scratch)
        signer.sign_files(folder, ignored, made / names.MODEL)
        model = bundle.read(made / names.MODEL, made)
        stated = statement.stated(model)
        signed = statement.signed_files(stated).digests
        _check_sealed(folder, sealed, signed)
        _write_statements(config, sealed, signed, report, signer, made)
        written = [name for name in names.ALL if (made / name).exists()]
        for name in names.ALL:
            if name not in written:
                (folder / name).unlink(missing_ok=True)  # of a former signing: it would be by another key
        for name in reversed(written):  # the signature over the files last
            write_whole(folder / name, (made / name).read_text(encoding="utf-8"))
    return Signing(
        key=sealed.key,
        recipe=sealed.recipe,
        signer=signer.document.model_copy(update={"public_key": signer.document.public_key or model.hint}),
        model=next(iter(stated.subjects.values())),
        files_signed=len(signed),
        bytes_signed=sum((folder / name).stat().st_size for name in signed),
        written=[_written(folder, name) for name in written],
        verified=[] if report is None else summary.levels(report),
        missing=[] if report is not None else [_NOT_VERIFIED],
    )


def _verification(config: SignConfig, sealed: Manifest) -> Evidence | None:
    """The newest report of `verify` about the checkpoint."""
    documents = gathered(sealed, config.checkpoint, config.work_dir)
    return next((each for each in documents if each.kind == "verification"), None)


def _write_statements(
    config: SignConfig,
    sealed: Manifest,
    signed: dict[str, str],
    report: Evidence | None,
    signer: Signer,
    made: Path,
) -> None:
    """Write the signed statements, each about every signed file, and the bill of materials, to `made`."""
    manifest_sha256 = signed[manifests.NAME]
    predicates = {names.PROVENANCE: (statement.PROVENANCE, provenance(sealed, config.builder))}
    if report is not None:
        predicates[names.SUMMARY] = (statement.SUMMARY, summary.summary(sealed, manifest_sha256, report))
    text = bom.bom(sealed, manifest_sha256)
    (made / names.BOM).write_text(text, encoding="utf-8")
    predicates[names.SIGNED_BOM] = (statement.BOM, json_files.parse(text.encode(), names.BOM))
    for name, (kind, predicate) in predicates.items():
        signer.sign_statement(signed.items(), kind, predicate, made / name)


def _ignored(folder: Path, sealed: Manifest) -> list[str]:
    """The names that are not signed: what lies beside the sealed files now, or may be written there later.

    Raises:
        Stop: for a file that is neither sealed nor allowed beside.
    """
    known = {*sealed.outputs.files, manifests.NAME}
    ignored = set()
    for path in all_files(folder):
        name = path.relative_to(folder).as_posix()
        if name in known:
            continue
        if not may_lie_beside(name):
            raise Stop(
                f"{plain(folder / name)} was not sealed and may not lie beside the sealed files: remove it"
            )
        ignored.add(name)
    later = [*_BESIDE, *names.ALL]
    holds_sealed = {name.split("/")[0] for name in known}
    return sorted(ignored | {name for name in later if name not in holds_sealed})


def _check_sealed(folder: Path, sealed: Manifest, signed: dict[str, str]) -> None:
    """Raise Stop unless the signed files are exactly those that the manifest lists, and the manifest."""
    expected = {name: entry.sha256 for name, entry in sealed.outputs.files.items()}
    expected[manifests.NAME] = sha256_file(folder / manifests.NAME, folder)
    for name in sorted(expected.keys() | signed.keys()):
        if signed.get(name) != expected.get(name):
            raise Stop(
                f"{plain(folder / name)} is not as it was sealed, so nothing was signed: "
                f"{command('verify', checkpoint=folder)} says what differs"
            )


def _written(folder: Path, name: str) -> SignedFile:
    content: Any = None
    if name != names.BOM:
        content = statement.stated(bundle.read(folder / name, folder)).predicate_type
    return SignedFile(name=name, sha256=sha256_file(folder / name, folder), statement=content)


def verify_command(config: SignConfig) -> str:
    """The command with which a stranger checks the signatures, with the paths that hold here."""
    place = shown(config.checkpoint)
    if config.sigstore:
        return f"{command('verify', checkpoint=place)} signed_by=YOU identity_provider=URL"
    if config.certificate is not None:
        return f"{command('verify', checkpoint=place)} certificate_chain=[FILE]"
    public = keys.public_path(config.key) if config.key is not None else "FILE"
    return command("verify", checkpoint=place, public_key=public)
