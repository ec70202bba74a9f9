"""What earlier commands have left of this very checkpoint and configuration: it need not be made again."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from proofcard import documents, json_files, manifest
from proofcard.audit import claims
from proofcard.card import beside
from proofcard.config.running import StageName
from proofcard.documents.plan import Plan
from proofcard.documents.signing import Signing
from proofcard.errors import Stop
from proofcard.evidence import gathered
from proofcard.extras import installed
from proofcard.files import read_bytes
from proofcard.progress import shown
from proofcard.run.request import Request
from proofcard.run.target import Target, needs_fetch
from proofcard.sign import keys

_SIGNATURE = 64 << 20  # bytes of a file beside the checkpoint that holds a signature
_VERIFIED = ("verified", "verified, scales as given")


def plan(request: Request) -> Plan | None:
    """The plan of this very configuration, if there is one."""
    path = request.recipe.work_dir / "plans" / f"{request.recipe.recipe.name}.json"
    try:
        found = documents.read(Plan, path)
    except (Stop, OSError):
        return None
    return found if found.config == request.recipe.identity() else None


def reused(request: Request, target: Target) -> dict[StageName, str]:
    """By stage what stands for it already: a folder or a document.

    `evaluate` is not among them: it knows its own results by their key, which takes its texts.
    """
    found: dict[StageName, str] = {}
    if plan(request) is not None:
        found["plan"] = shown(request.recipe.work_dir / "plans" / f"{request.recipe.recipe.name}.json")
    if target.sealed is None:
        return found
    found["quantize"] = shown(target.folder)
    if needs_fetch(request.recipe):
        found["fetch"] = shown(target.source)
    for one in gathered(target.sealed, target.folder, request.recipe.work_dir):
        for stage, fits in _FITS.items():
            if one.kind == _KIND.get(stage, stage) and fits(one.values, request, target):
                found[stage] = shown(one.path)
    return found


def audit(request: Request, target: Target) -> str | None:
    """The audit of the documents that there are now, by the claims file that would be used now."""
    if target.sealed is None:
        return None
    there = gathered(target.sealed, target.folder, request.recipe.work_dir)
    _, claims_sha256 = claims.read(claims.chosen(None, request.recipe.recipe.name))
    judged = {one.sha256 for one in there if one.kind not in ("plan", "audit")}
    for one in there:
        sources = {source.get("sha256") for source in one.values.get("sources") or []}
        same = one.values.get("key") == target.key and one.values.get("claims_sha256") == claims_sha256
        if one.kind == "audit" and same and sources == judged:
            return shown(one.path)
    return None


def card(request: Request, target: Target) -> bool:
    """Whether there is a card with the requested licence; whether it agrees, `card check=true` says."""
    if target.sealed is None:
        return False
    try:
        stored, _, _ = beside.stored(target.folder, target.sealed)
    except (Stop, OSError):
        return False
    config = request.config
    given = (config.license, config.license_name, config.license_link)
    kept = (stored.inputs.license, stored.inputs.license_name, stored.inputs.license_link)
    return all(want in (None, have) for want, have in zip(given, kept, strict=True))


def signed(target: Target) -> Signing | None:
    """The signatures of the checkpoint that are there as they were written."""
    path = target.folder.with_name(f"{target.folder.name}.signing.json")
    try:
        made = documents.read(Signing, path)
        there = {
            one.name: read_bytes(target.folder / one.name, target.folder, _SIGNATURE) for one in made.written
        }
    except (Stop, OSError):
        return None
    same = all(hashlib.sha256(there[one.name]).hexdigest() == one.sha256 for one in made.written)
    return made if same and made.key == target.key else None


def signed_by(request: Request, target: Target) -> bool:
    """Whether the checkpoint is signed with the requested key. Of other signers this is not known."""
    made, key = signed(target), request.config.key
    if made is None or made.signer.method != "key" or key is None or request.config.certificate is not None:
        return False
    try:
        public = keys.public_path(key).read_bytes()
    except OSError:
        return False
    return made.signer.public_key == hashlib.sha256(public).hexdigest()


def evaluations(request: Request) -> set[str]:
    """The sealed evaluations that there are."""
    return {path.parent.name for path in (request.recipe.work_dir / "evaluations").glob(f"*/{manifest.NAME}")}


def _verification(values: dict[str, Any], request: Request, target: Target) -> bool:
    """Of this very manifest, with every packed byte held to the source."""
    content = read_bytes(target.folder / manifest.NAME, target.folder, json_files.TABLE)
    seal, levels = values.get("manifest") or {}, values.get("levels") or {}
    proved = all((levels.get(name) or {}).get("result") == "holds" for name in _LEVELS)
    same = seal.get("sha256") == hashlib.sha256(content).hexdigest()
    return bool(values.get("result") in _VERIFIED and proved and same)


_LEVELS = ("integrity", "structure", "weights")


def _analysis(values: dict[str, Any], request: Request, target: Target) -> bool:
    return True


def _serving(values: dict[str, Any], request: Request, target: Target) -> bool:
    """The same profile and questions, enough of them answered."""
    if not installed("servers"):
        return False
    from proofcard.serve import truth

    known = values.get("known_answers") or {}
    asked = [each.get("prompt") for each in known.get("verdicts") or []]
    wanted = request.config.serving.model_dump(mode="json", exclude={"api_key_file"})
    return (
        _profile(values.get("profile") or {}) == _profile(wanted)
        and known.get("sound") is True
        and known.get("at_least") == request.config.truth.at_least
        and asked == [each.prompt for each in truth.questions(request.config.truth).values()]
    )


def _profile(values: Mapping[str, Any]) -> dict[str, Any]:
    """A profile without what a start adds to it: the name that is served, whether the model brings code."""
    flags = {name: value for name, value in values.get("flags", {}).items() if name != "trust-remote-code"}
    return {name: value for name, value in values.items() if name != "served_model_name"} | {"flags": flags}


def _benchmark(values: dict[str, Any], request: Request, target: Target) -> bool:
    config = request.config
    same_load = values.get("load") == config.benchmark.identity()
    return same_load and values.get("serving") == config.serving.identity()


_FITS: dict[StageName, Callable[[dict[str, Any], Request, Target], bool]] = {
    "verify": _verification, "analyse": _analysis, "serve": _serving, "benchmark": _benchmark,
}  # fmt: skip
_KIND = {"verify": "verification", "analyse": "analysis", "serve": "serving"}
