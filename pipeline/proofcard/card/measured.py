"""What was measured of the checkpoint: throughput, known answers, fidelity, tasks, an agentic build."""

from typing import Any

from proofcard.benchmark.points import impossible
from proofcard.benchmark.results import published
from proofcard.card.facts import Facts, file_name, number, table, value
from proofcard.documents.card import Chart, Section, Table, Value
from proofcard.evidence import Evidence
from proofcard.reports import percent


def performance(facts: Facts) -> Section:
    """What a start of an engine reported: time until ready, requested and effective settings."""
    title = "Serving, as it ran"
    sessions = facts.all_of("serving")
    if not sessions:
        return Section(
            title=title, intro="", command="proofcard serve checkpoint=DIR serving=PROFILE stay=false"
        )
    values, tables = [], []
    for one in sessions:
        session, file, profile = one.values, file_name(one), one.name
        engine = " ".join(filter(None, [session["engine"], session["engine_version"]]))
        values += [
            value(f"{profile}: engine", engine, "measured", file, "engine"),
            value(
                f"{profile}: seconds until the first answer",
                float(session["ready_s"]),
                "measured",
                file,
                "ready_s",
            ),
        ]
        rows = [[each["name"], each["requested"], each["effective"]] for each in session["settings"]]
        if rows:
            tables.append(
                table(["Setting", "Requested", "In effect"], rows, "measured", file, "settings", profile)
            )
    return Section(title=title, intro="", lines=values, tables=tables)


def throughput(facts: Facts) -> Section:
    """Tokens per second by users, with doubts about each figure and published figures for comparison."""
    title = "Throughput"
    results = facts.all_of("benchmark")
    if not results:
        text = "proofcard benchmark checkpoint=DIR serving=PROFILE benchmark=card"
        return Section(title=title, intro="", command=text)
    tables: list[Table] = []
    charts: list[Chart] = []
    for one in results:
        tables += _levels(one)
        charts.append(_curve(one))
    text = (
        "Mean over the starts of the server, and least to most. Published figures are shown where the "
        "benchmark names them; ! marks a row that contradicts itself or is in doubt."
    )
    return Section(title=title, intro=text, tables=tables, charts=charts)


def _levels(one: Evidence) -> list[Table]:
    results, file = one.values, file_name(one)
    series = [(each, impossible(each)) for each in published(tuple(results["load"].get("beside", ())))]
    header = ["Users", "Tokens/s", "Range", "Tokens/s per user", "First token, ms (p50)", "Failed",
              *(each.name for each, _ in series)]  # fmt: skip
    rows, doubts = [], []
    for level in results["levels"]:
        users, whole = level["users"], level.get("tokens_per_s")
        rows.append([
            f"{users}{'!' if level['doubts'] else ''}", _mean(level, "tokens_per_s"),
            f"{number(whole['least'])}..{number(whole['most'])}" if whole else "–",
            _mean(level, "tokens_per_s_user"), _mean(level, "first_ms_p50"), level["failed"],
            *(number(each.aggregate.get(users)) + ("!" if users in wrong else "") for each, wrong in series),
        ])  # fmt: skip
        doubts += [[users, doubt] for doubt in level["doubts"]]
    doubts += [[f"{each.name}, {users}", why] for each, wrong in series for users, why in wrong.items()]
    load = results["load"]
    caption = (
        f"{results['server']['label']}: {len(results['starts'])} starts, {load['input_tokens']} tokens in, "
        f"{load['output_tokens']} out"
    )
    made = [table(header, rows, "measured", file, "levels", caption)]
    if doubts:
        made.append(table(["Users", "Doubt"], doubts, "measured", file, "levels.doubts"))
    return made


def _mean(level: dict[str, Any], name: str) -> str:
    spread = level.get(name)
    return number(spread["mean"] if spread else None)


def _curve(one: Evidence) -> Chart:
    levels, name = one.values["levels"], one.values["server"]["label"]
    rates = [level["tokens_per_s"]["mean"] if level.get("tokens_per_s") else None for level in levels]
    series: dict[str, list[float | None]] = {str(name): rates}
    for each in published(tuple(one.values["load"].get("beside", ()))):
        series[each.name] = [each.aggregate.get(level["users"]) for level in levels]
    return Chart(
        title="Tokens per second of all users together",
        name=f"throughput-{file_name(one).removesuffix('.json')}",
        x=[float(level["users"]) for level in levels], x_title="users", y_title="tokens/s", series=series,
        document=file_name(one),
    )  # fmt: skip


def fidelity(facts: Facts) -> Section:
    """What the checkpoint lost against its source, and where, from `evaluate`."""
    title = "Fidelity to the source"
    one = facts.one("evaluation")
    if one is None:
        return Section(title=title, intro="", command="proofcard evaluate checkpoint=DIR source=DIR")
    evaluation, file = one.values, file_name(one)
    texts = evaluation["texts"]
    columns = {"kl_mean": "KL, mean", "kl_p99": "KL, p99", "perplexity_ratio": "Perplexity ratio",
               "same_top": "Same top token"}  # fmt: skip
    rows = [
        [stream["name"], *(estimate(stream["all"]["numbers"].get(key)) for key in columns)]
        for stream in evaluation["streams"]
    ]
    streams = table(["Run", *columns.values()], rows, "measured", file, "streams", "Next-token distributions")
    rows = [[each["cost"], estimate(each["kl_mean"])] for each in evaluation["costs"]]
    costs = table(["Part", "Adds to the mean KL"], rows, "measured", file, "costs", "What costs how much")
    names = list(evaluation["layers"][0]["error"]) if evaluation["layers"] else []
    chart = Chart(
        title="Relative error of the output, by layer", name="layers",
        x=[float(layer["layer"]) for layer in evaluation["layers"]], x_title="layer",
        y_title="relative error",
        series={name: [layer["error"][name]["value"] for layer in evaluation["layers"]] for name in names},
        document=file,
    )  # fmt: skip
    text = (
        f"{texts['documents']:,} texts of {texts['tokens']:,} tokens that did not calibrate it; divergences "
        "in nats, 95% intervals over texts."
    )
    return Section(
        title=title, intro=text, tables=[streams, *([costs] if evaluation["costs"] else [])], charts=[chart]
    )


def estimate(one: dict[str, Any] | None) -> str:
    """A number with its interval, where it has one."""
    if one is None:
        return "–"
    if one["low"] is None or one["high"] is None:
        return number(one["value"])
    return f"{number(one['value'])} ({number(one['low'])} to {number(one['high'])})"


def tasks(facts: Facts) -> Section:
    """The same questions put to the source and to the checkpoint."""
    title = "Tasks"
    results = facts.all_of("tasks")
    if not results:
        text = "proofcard tasks reference.checkpoint=SOURCE candidate.checkpoint=DIR serving=PROFILE"
        return Section(title=title, intro="", command=text)
    tables, values = [], []
    for one in results:
        report, file = one.values, file_name(one)
        header = ["Task", "Questions", "Reference", "Checkpoint", "Difference", "Detectable", "Verdict"]
        rows = [
            [name, each["questions"], _range(each["reference"]), _range(each["candidate"]),
             _range(each["difference"]), percent(each["detectable"]), each["verdict"]]
            for name, each in report["tasks"].items()
        ]  # fmt: skip
        rows += [
            [name, "–", "–", "–", "–", "–", f"not run: {why}"] for name, why in report["not_run"].items()
        ]
        tables.append(table(header, rows, "measured", file, "tasks", report["name"]))
        values.append(value(f"{report['name']}: verdict", report["verdict"], "measured", file, "verdict"))
    return Section(title=title, intro="Shares of 1 with their intervals.", lines=values, tables=tables)


def _range(one: dict[str, Any]) -> str:
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def agentic(facts: Facts) -> Section:
    """A program that the model built, task by task."""
    title = "Agentic build"
    results = facts.all_of("agentic")
    if not results:
        return Section(title=title, intro="", command="proofcard agentic checkpoint=DIR serving=PROFILE")
    values: list[Value] = []
    for one in results:
        report, file = one.values, file_name(one)
        values.append(
            value(
                f"{report['name']}: share of tasks passed", _range(report["score"]), "measured", file, "score"
            )
        )
        for place, run in enumerate(report["runs"]):
            files = run["files"]
            text = f"{run['passed']} of {len(run['tasks'])} tasks; {len(files)} files"
            text += f", {sum(files.values()):,} lines"
            values.append(
                value(f"{report['name']}, run {place + 1}", text, "measured", file, f"runs.{place}")
            )
    return Section(title=title, intro="Checks run in a sandbox, outside the model's reach.", lines=values)


def known_answers(facts: Facts) -> Section:
    """Questions with known answers."""
    title = "Known answers"
    sessions = facts.all_of("serving")
    if not sessions:
        return Section(
            title=title, intro="", command="proofcard serve checkpoint=DIR serving=PROFILE stay=false"
        )
    values, tables = [], []
    for one in sessions:
        known, file = one.values["known_answers"], file_name(one)
        text = f"{known['passed']} of {len(known['verdicts'])}"
        values.append(value(f"{one.name}: right answers", text, "measured", file, "known_answers.passed"))
        rows = [[each["name"], each["right"]] for each in known["verdicts"]]
        tables.append(
            table(["Question", "Right"], rows, "measured", file, "known_answers.verdicts", one.name)
        )
    return Section(title=title, intro="", lines=values, tables=tables)
