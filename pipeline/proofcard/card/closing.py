"""The last sections: verification, reproduction, claims, limitations, license, sources, how to check."""

from proofcard.audit import show
from proofcard.card.facts import MANIFEST, Facts, file_name, table, value
from proofcard.documents.audit import Audit
from proofcard.documents.card import Section
from proofcard.reports import percent
from proofcard.screen import on_one_line


def verification(facts: Facts) -> Section:
    """The levels of `verify`, if it checked this manifest."""
    title = "Verification"
    one = facts.one("verification")
    if one is None or not facts.levels():
        return Section(title=title, intro="", command="proofcard verify checkpoint=DIR source=SOURCE")
    file = file_name(one)
    rows = [
        [name, level["result"], ", ".join(f"{count:,} {what}" for what, count in level["counts"].items()),
         "; ".join([*([level["not_requested"]] if level["not_requested"] else []), *level["notes"]])]
        for name, level in one.values["levels"].items()
    ]  # fmt: skip
    levels = table(["Level", "Result", "What was checked", "Notes"], rows, "proven", file, "levels")
    values = [value("Result", one.values["result"], "proven", file, "result")]
    text = (
        "integrity: every file and tensor is what was sealed. structure: complete and consistent. weights: "
        "every packed byte follows from the source."
    )
    return Section(title=title, intro=text, lines=values, tables=[levels])


def reproduction(facts: Facts) -> Section:
    """Whether it was rebuilt."""
    title = "Reproduction"
    one = facts.one("reproduction")
    if one is None:
        return Section(title=title, intro="", command="proofcard reproduce checkpoint=DIR")
    result, file = one.values, file_name(one)
    values = [value("Outcome", result["outcome"], "proven", file, "outcome")]
    for key in ("files", "tensors", "calibrated"):
        counts = result[key]
        text = f"{counts['equal']:,} of {counts['recorded']:,} equal"
        values.append(value(key.capitalize(), text, "proven", file, key))
    intro = "Rebuilt from the manifest and compared digest by digest."
    return Section(title=title, intro=intro, lines=values)


def claims(facts: Facts) -> Section:
    """The audit's table."""
    title = "Claims"
    audits = facts.all_of("audit")
    if not audits:
        text = f"proofcard audit recipe={facts.sealed.recipe or 'NAME'} checkpoint=DIR"
        return Section(title=title, intro="", command=text)
    tables, counts = [], []
    for one in audits:
        audit, file = Audit.model_validate(one.values), file_name(one)
        counts.append(f"{audit.card}, checked with recipe={audit.recipe}: {show.counted(audit)}")
        needs = show.needs(audit)
        for section in show.sections(audit):
            rows = [
                [claim.claim, show.evidence(claim),
                 " ".join([claim.verdict, *(f"({number})" for number in show.numbers(claim, needs))])]
                for claim in audit.claims
                if claim.section == section
            ]  # fmt: skip
            tables.append(table(["Claim", "Evidence", "Verdict"], rows, "derived", file, "claims", section))
        if needs:
            rows = [[f"({place})", text, where] for place, (text, where) in enumerate(needs, 1)]
            tables.append(
                table(["", "Needs", "On"], rows, "not measured", file, "claims", "What was not checked")
            )
    return Section(title=title, intro=" ".join(counts), tables=tables)


def limitations(facts: Facts, unmeasured: list[str]) -> Section:
    """Limitations that follow from the documents; `unmeasured` are the sections without data."""
    rows: list[tuple[str, str, str]] = []
    if facts.sealed.outputs.tensors:
        rows.append(
            (
                "Products in FP4 need SM100 or SM120; SM80 to SM90 unpack the weights (W4A16)",
                MANIFEST,
                "config",
            )
        )
    kv = facts.config["kv_cache"]["format"]
    if kv == "fp8_affine":
        rows.append(("No engine loads the KV biases; K may be clipped", MANIFEST, "config.kv_cache.format"))
    if not facts.config["calibration"]["attention_mask"]:
        rows.append(("Padding took part in calibration", MANIFEST, "config.calibration.attention_mask"))
    if not facts.config["calibration"]["chat_template"]:
        rows.append(
            ("Calibration texts did not use the chat template", MANIFEST, "config.calibration.chat_template")
        )
    cold = facts.sealed.statistics.get("experts_cold")
    if isinstance(cold, int) and cold:
        rows.append(
            (
                f"{cold:,} experts (per layer) received no token from the router",
                MANIFEST,
                "statistics.experts_cold",
            )
        )
    one = facts.one("analysis")
    if one is not None and (spread := one.values["coverage"]) is not None:
        few = int(spread["below"].get("1000", 0)) / max(int(spread["experts"]), 1)
        rows.append(
            (
                f"{percent(few)} of the experts saw fewer than 1,000 positions as routed",
                file_name(one),
                "coverage.below",
            )
        )
    for one in facts.all_of("benchmark"):
        doubted = sum(bool(level["doubts"]) for level in one.values["levels"])
        if doubted:
            rows.append((f"{doubted} levels of {one.name} are in doubt", file_name(one), "levels"))
    if unmeasured:
        rows.append((f"Not measured: {', '.join(unmeasured)}", MANIFEST, "key"))
    values = [
        value(f"{place}", text, "derived", file, pointer)
        for place, (text, file, pointer) in enumerate(rows, 1)
    ]
    return Section(title="Known limitations", intro="", lines=values)


def rights(facts: Facts) -> Section:
    """The license of the source, how to cite, and what this builds on."""
    given = facts.inputs
    values = []
    licence = given.license_name or given.license
    if licence is not None:
        values.append(value("License", licence, "derived", "card.json", "inputs.license"))
    if given.license_link is not None:
        values.append(
            value("License text", given.license_link, "derived", "card.json", "inputs.license_link")
        )
    base = given.base_model or facts.config["model"]["name"]
    values.append(value("Made from", base, "derived", MANIFEST, "config.model"))
    patched = facts.sealed.toolchain.get("patches")
    if isinstance(patched, dict) and "package" in patched:
        text = f"{patched['package']} {patched['version']}"
        values.append(value("Number format and calibration", text, "derived", MANIFEST, "toolchain.patches"))
    sets = sorted({str(each["repository"]) for each in facts.config["calibration"]["datasets"].values()})
    values.append(value("Datasets", sets, "derived", MANIFEST, "config.calibration.datasets"))
    text = "A quantized copy has the license of its source." if licence else (
        "The license is the source's; it was not given when this card was written (license=…, or source=DIR)."
    )  # fmt: skip
    key = facts.sealed.key
    code = [
        f"@misc{{{(facts.sealed.recipe or 'checkpoint').replace('_', '-')}-{key[:12]},",
        f"  title={{{on_one_line(given.title)}}}, note={{key {key}}}}}",
    ]
    return Section(title="License, citation, acknowledgements", intro=text, lines=values, code=code)


def sources(facts: Facts) -> Section:
    """Each document, its digest, and the run that left it."""
    rows = [["manifest.json", "proofcard/manifest/1", facts.sha256, "sealed"]]
    for one in facts.quoted():
        run = "–" if one.run is None else one.run.link or f"{one.run.name} ({one.run.id})"
        rows.append([one.name, one.schema_, one.sha256, run])
    documents = table(["Document", "Schema", "sha256", "Run"], rows, "derived", MANIFEST, "key")
    text = (
        "Copies are in .proofcard beside this card, and every number above refers to its place in one of "
        "them. proven: shown byte by byte. measured: by a run. derived: from the manifest, the "
        "configuration or a plan. not measured: no run yet."
    )
    return Section(title="Where the numbers come from", intro=text, tables=[documents])


def check(facts: Facts) -> Section:
    """The commands with which anybody verifies the checkpoint and this card."""
    source = facts.inputs.base_model or "SOURCE"
    code = [
        "pip install proofcard",
        "proofcard card checkpoint=DIR check=true",
        f"proofcard verify checkpoint=DIR source={'FOLDER-OF-' + source.split('/')[-1]}",
    ]
    text = f"DIR is the downloaded checkpoint. No GPU is needed. The key is {facts.sealed.key}."
    return Section(title="Verify it yourself", intro=text, code=code)
