"""The card as a document: every section in its order, and the metadata that the hub reads."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from proofcard.card import closing, making, measured, running
from proofcard.card.facts import MANIFEST, Facts, file_name, size, value, whole
from proofcard.config import QuantizeConfig, compose
from proofcard.documents.card import Card, Section
from proofcard.reports import percent
from proofcard.screen import on_one_line

_DEFAULT = "modelopt_default"


def assembled(facts: Facts) -> Card:
    """The whole card.

    Raises:
        Stop: when a document is incomplete.
    """
    middle: list[Callable[[Facts], Section]] = [
        making.model, making.quantized, making.kv_cache, partial(making.choices, default=_default()),
        making.data,
        making.coverage, running.hardware, running.profiles, running.sampling, measured.performance,
        measured.throughput, running.backends, measured.fidelity, measured.tasks, measured.agentic,
        measured.known_answers, making.recipe, closing.verification, closing.reproduction, closing.claims,
    ]  # fmt: skip
    sections = [_section(each, facts) for each in middle]
    unmeasured = [section.title for section in sections if section.command is not None]
    limits = _section(partial(closing.limitations, unmeasured=unmeasured), facts)
    last = [_section(each, facts) for each in (closing.rights, closing.sources, closing.check)]
    return Card(
        key=facts.sealed.key,
        recipe=facts.sealed.recipe,
        inputs=facts.inputs,
        metadata=metadata(facts),
        documents=facts.quoted(),
        sections=[_section(summary, facts), *sections, limits, *last],
    )


@cache
def _default() -> QuantizeConfig:
    return compose(QuantizeConfig, "config", [f"recipe={_DEFAULT}", "tracking=off"])


def _section(make: Callable[[Facts], Section], facts: Facts) -> Section:
    function: Any = make.func if isinstance(make, partial) else make
    with whole(f"the section {function.__name__.replace('_', ' ')}"):
        return make(facts)


def summary(facts: Facts) -> Section:
    """The headline numbers."""
    sealed = facts.sealed
    files = sealed.outputs.files.values()
    values = [
        value("Key", sealed.key, facts.proven("integrity"), MANIFEST, "key"),
        value(
            "Size",
            size(sum(each.size for each in files)),
            facts.proven("integrity"),
            MANIFEST,
            "outputs.files",
        ),
    ]
    if results := facts.levels():
        one = facts.one("verification")
        assert one is not None
        text = ", ".join(f"{name} {each}" for name, each in results.items() if each != "not requested")
        values.append(value("Verified", text, "proven", file_name(one), "levels"))
    if (one := facts.one("analysis")) is not None:
        text = percent(one.values["bytes"]["share"])
        values.append(
            value("Bytes that calibration decides", text, "measured", file_name(one), "bytes.share")
        )
    if (one := facts.one("evaluation")) is not None:
        last = next(each for each in one.values["streams"] if each["name"] == one.values["last"])
        text = measured.estimate(last["all"]["numbers"]["kl_mean"])
        values.append(value("Mean KL from the source, nats", text, "measured", file_name(one), "streams"))
    for one in facts.all_of("benchmark"):
        rates = [
            (each["tokens_per_s"]["mean"], each["users"])
            for each in one.values["levels"]
            if each.get("tokens_per_s")
        ]
        if rates:
            most, users = max(rates)
            text = f"{measured.number(most)} at {users} user{'s' if users > 1 else ''}"
            values.append(value(f"Tokens/s, {one.name}", text, "measured", file_name(one), "levels"))
    for one in facts.all_of("audit"):
        counts = one.values["counts"]
        text = f"{counts['holds']} of {len(one.values['claims'])} hold"
        values.append(value(f"Claims of {one.name}", text, "derived", file_name(one), "counts"))
    base = facts.inputs.base_model or facts.config["model"]["name"]
    text = f"{base} in NVFP4, made by recipe={sealed.recipe}. Every number links to its document."
    return Section(title="At a glance", intro=text, lines=values)


def metadata(facts: Facts) -> dict[str, Any]:
    """What the hub reads at the top of the card; a field without a value is left out."""
    given = facts.inputs
    sets = sorted({str(each["repository"]) for each in facts.config["calibration"]["datasets"].values()})
    fields: dict[str, str | list[str] | None] = {
        "license": given.license,
        "license_name": given.license_name,
        "license_link": given.license_link,
        "base_model": given.base_model,
        "base_model_relation": "quantized" if given.base_model else None,
        "datasets": sets,
        "library_name": "Model Optimizer",
        "pipeline_tag": "text-generation",
        "tags": ["nvfp4", "fp4", "modelopt", "quantized", "proofcard"],
    }
    return {
        name: [*map(on_one_line, each)] if isinstance(each, list) else on_one_line(each)
        for name, each in fields.items()
        if each
    }
