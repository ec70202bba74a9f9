"""`audit`: a published card's claims, each checked against a recipe's plan and the available documents.

uv run proofcard audit recipe=minimax_m2_7_nvfp4_as_run                  # plan the recipe, check every claim
uv run proofcard audit recipe=demo checkpoint=runs/checkpoints/demo      # one's own claims, before publishing
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import outcome, tracking
from proofcard.audit import claim_checks, claims, show
from proofcard.config import QuantizeConfig, compose
from proofcard.digest import sha256_json
from proofcard.disk import check_writable
from proofcard.documents.audit import VERDICTS, Audit, Source
from proofcard.documents.base import read
from proofcard.documents.manifest import Manifest
from proofcard.documents.plan import Plan
from proofcard.errors import Stop, Usage, before_work
from proofcard.evidence import checkpoint_of, contains, gathered
from proofcard.extras import require
from proofcard.plan import outline

_OWN = ("claims", "checkpoint", "plan", "report")
"""Words that are the audit's own; all others are overrides of the recipe."""


def run(words: list[str]) -> int:
    """Audit and show. Returns 0: a claim that does not hold is a result.

    Raises:
        Usage: when the request cannot be audited.
    """
    own = {key: value for key, _, value in (word.partition("=") for word in words) if key in _OWN}
    overrides = [word for word in words if word.partition("=")[0] not in _OWN]
    config = compose(QuantizeConfig, "config", overrides)
    with before_work():
        path = claims.chosen(own.get("claims"), config.recipe.name)
        claims_file, digest = claims.read(path)
        checkpoint = Path(own["checkpoint"]) if "checkpoint" in own else None
        sealed = checkpoint_of(checkpoint) if checkpoint is not None else None
        _check_recipe(config, sealed)
        described = outline.describe(config.model)
        target = Path(own["report"]) if "report" in own else _target(config, path)
        check_writable(target.parent)
    plan = _given(Path(own["plan"]), config) if "plan" in own else _planned(config, described)
    documents = gathered(sealed, checkpoint, config.work_dir) if sealed and checkpoint else []
    basis = claim_checks.Basis(
        plan, described.config, [one for one in documents if one.kind not in ("plan", "audit")]
    )
    document = audited(config, claims_file, path.stem, digest, basis, sealed)
    subject = tracking.of_sealed(sealed) if sealed is not None else None
    with tracking.opened(
        config.tracking, "audit", config.work_dir, subject=subject, name=f"audit {path.stem}"
    ) as tracker:
        tracker.metrics({"claims_hold": document.counts.get("holds", 0) / max(1, len(document.claims))})
        tracker.numbers(
            {name: float(count) for name, count in document.counts.items()}, "audit/verdicts.json"
        )
        outcome.deliver(document, target, partial(show.show, document), tracker, "audit")
    return 0


def audited(
    config: QuantizeConfig,
    claims_file: claims.Claims,
    name: str,
    digest: str,
    basis: claim_checks.Basis,
    sealed: Manifest | None,
) -> Audit:
    """The document. `name` and `digest` are the claims file's."""
    verdicts = claim_checks.audited(claims_file, basis)
    return Audit(
        claims_file=name,
        claims_sha256=digest,
        card=claims_file.card,
        recipe=config.recipe.name,
        config_sha256=sha256_json(config.identity()),
        key=sealed.key if sealed is not None else None,
        counts={each: sum(claim.verdict == each for claim in verdicts) for each in VERDICTS},
        sources=[Source(kind=one.kind, schema=one.schema, sha256=one.sha256) for one in basis.documents],
        claims=verdicts,
    )


def _target(config: QuantizeConfig, path: Path) -> Path:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{path.stem}.{config.recipe.name}")
    return config.work_dir / "audits" / f"{name}.json"


def _check_recipe(config: QuantizeConfig, sealed: Manifest | None) -> None:
    if sealed is not None and not contains(config.identity(), sealed.config):
        raise Stop(
            f"the checkpoint was made with recipe={sealed.recipe}, or with other overrides than those given: "
            "pass the recipe and the overrides that made it"
        )


def _planned(config: QuantizeConfig, described: outline.Described) -> dict[str, Any]:
    from proofcard.plan.planning import planned

    require("this command", "quantize", "; or set plan=FILE, a plan made elsewhere")
    return planned(config, described).values()


def _given(path: Path, config: QuantizeConfig) -> dict[str, Any]:
    """A plan that was made before.

    Raises:
        Usage: when it is not one of this recipe.
    """
    try:
        values = read(Plan, path).values()
    except FileNotFoundError:
        command = f"proofcard plan recipe={config.recipe.name}"
        raise Usage(f"plan={path} does not exist: make it with {command}") from None
    except Stop as error:
        raise Usage(str(error)) from None
    if values["config"] != config.identity():
        raise Usage(f"plan={path} is not of recipe={config.recipe.name} as composed now: plan it again")
    return values
