"""The stages of a chain: their command lines, and which of them are left out for what reason."""

from pathlib import Path

from proofcard.audit import claims
from proofcard.config.running import STAGES, StageName
from proofcard.errors import Usage
from proofcard.run.request import Request
from proofcard.run.target import Target, needs_fetch


def words(stage: StageName, request: Request, target: Target) -> list[str]:
    """The command of a stage, without `proofcard`."""
    theirs = request.words[stage]
    checkpoint = f"checkpoint={target.folder}"
    source = f"source={target.source}"
    if stage in ("plan", "fetch", "quantize"):
        return [stage, *theirs]
    before, after = {
        "verify": ([checkpoint, source], []),
        "analyse": ([checkpoint], []),
        "serve": ([checkpoint], ["stay=false"]),
        "benchmark": ([checkpoint], []),
        "evaluate": ([checkpoint, source], []),
        "audit": ([checkpoint, f"plan={plan_of(request)}"], []),
        "card": ([checkpoint, *_licence_from(source, request)], []),
        "sign": ([checkpoint], []),
    }[stage]
    if stage == "sign" and request.config.key is not None:  # as a path, whatever it was composed from
        others = [word for word in theirs if not word.startswith("key=")]
        theirs = [f"key={request.config.key}", *others]
    return [stage, *before, *theirs, *after]


def card_check(request: Request, target: Target) -> list[str]:
    """The command that holds the card to its documents."""
    shared = [word for word in request.words["card"] if word.startswith(("work_dir=", "tracking"))]
    return ["card", f"checkpoint={target.folder}", "check=true", *shared]


def processes(stage: StageName, request: Request) -> int:
    """How many processes a stage has."""
    return request.config.processes if stage in ("quantize", "evaluate") else 1


def plan_of(request: Request) -> Path:
    """Where the plan of the recipe is written."""
    return request.recipe.work_dir / "plans" / f"{request.recipe.recipe.name}.json"


def _licence_from(source: str, request: Request) -> list[str]:
    return [] if request.config.license else [source]


def left_out(request: Request) -> dict[StageName, str]:
    """The stages that do not run, with the reason."""
    config = request.config
    reasons: dict[StageName, str] = dict.fromkeys(config.skip, "as requested")
    reasons |= {stage: why for stage, why in _pointless(request).items() if stage not in reasons}
    return {stage: reasons[stage] for stage in STAGES if stage in reasons}


def _pointless(request: Request) -> dict[StageName, str]:
    found: dict[StageName, str] = {}
    if not needs_fetch(request.recipe):
        found["fetch"] = "nothing of the recipe is on the hub"
    if request.recipe.engine.name != "layerwise":
        found["analyse"] = "engine=layerwise keeps the statistics that it reads"
    try:
        claims.chosen(None, request.recipe.recipe.name)
    except Usage:
        found["audit"] = "no file in conf/claims names this recipe"
    if not request.config.signs:
        found["sign"] = "nobody to sign: key=FILE, pkcs11=URI or sigstore=true"
    return found
