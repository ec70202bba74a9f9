"""The report of a benchmark: throughput, latency, machine, comparison with others, and doubts."""

from dataclasses import dataclass
from typing import Any

from proofcard.benchmark import points
from proofcard.config.benchmarking import Published
from proofcard.documents.benchmark import Level, Results
from proofcard.reports import Section, markdown
from proofcard.screen import in_markdown


@dataclass(frozen=True)
class Series:
    """Another series of tokens/s by users, for comparison; `wrong` are its inconsistent rows."""

    name: str
    told: str
    aggregate: dict[int, float]
    per_user: dict[int, float]
    wrong: dict[int, str]


def of_published(sections_so_far: Published) -> Series:
    """A published table."""
    told = f"{sections_so_far.source}: {sections_so_far.setting}."
    return Series(
        sections_so_far.name,
        told,
        sections_so_far.aggregate,
        sections_so_far.per_user,
        points.impossible(sections_so_far),
    )


def of_earlier(name: str, results: Results, differs: list[str]) -> Series:
    """Earlier results of our own; `differs` lists what was configured differently."""
    of = {level.users: level for level in results.levels}
    told = f"{name}: " + (f"differs in {', '.join(differs)}." if differs else "the same configuration.")
    return Series(
        "earlier",
        told,
        {users: level.tokens_per_s.mean for users, level in of.items() if level.tokens_per_s},
        {users: level.tokens_per_s_user.mean for users, level in of.items() if level.tokens_per_s_user},
        {users: "see its own report" for users, level in of.items() if level.doubts and level.tokens_per_s},
    )


def sections(results: Results, beside: list[Series]) -> list[Section]:
    """The sections of the report, in order."""
    sections_so_far = [_throughput(results), _latency(results), _machine(results)]
    if beside:
        sections_so_far.append(_beside(results, beside))
    doubts = [[str(level.users), text] for level in results.levels for text in level.doubts]
    if not results.complete:
        doubts.insert(0, ["all", "interrupted: not every start has every level"])
    text = "None." if not doubts else "Why levels are marked with !."
    return [*sections_so_far, Section("Doubts", text, ["users", "doubt"] if doubts else [], doubts)]


def page(results: Results, sections_so_far: list[Section]) -> str:
    """The report as Markdown."""
    return "\n".join([f"# {in_markdown(results.name)}", "", *markdown(sections_so_far)]) + "\n"


def _throughput(results: Results) -> Section:
    load, starts = results.load, len(results.starts)
    text = (
        f"{results.server.label}, {starts} start{'s' if starts > 1 else ''} of it, "
        f"{load['output_tokens']}-token answers to prompts of {load['input_tokens']} tokens; "
        f"tokens counted by the {'server' if results.usage else 'tokenizer'}. Mean over the starts, "
        "and lowest to highest. Per user: tokens over the seconds waited. Client: upper bound of its share."
    )
    rows = []
    for level in results.levels:
        whole, client = level.tokens_per_s, level.client
        rows.append(
            [
                _users(level),
                str(level.requests),
                _number(level.mean("tokens_per_s")),
                f"{_number(whole.least)}..{_number(whole.most)}" if whole else "–",
                _number(level.mean("tokens_per_s_user")),
                f"{100 * client.share:.1f}%" if client else "–",
            ]
        )
    return Section("Throughput", text, ["users", "requests", "tokens/s", "range", "per user", "client"], rows)


def _latency(results: Results) -> Section:
    text = (
        "p50 / p90 / p99 over a start's requests, mean over the starts. TTFT: time to first token. ITL: "
        "inter-token latency."
    )
    rows = [
        [_users(level), *(_spread(level, name) for name in ("first_ms", "each_ms", "request_s"))]
        for level in results.levels
    ]
    return Section("Latency", text, ["users", "TTFT, ms", "ITL, ms", "request, s"], rows)


def _spread(level: Level, name: str) -> str:
    return " / ".join(_number(level.mean(f"{name}_p{share}")) for share in (50, 90, 99))


def _machine(results: Results) -> Section:
    columns = {"rss_gib": "memory, GiB", "gpu_gib": "GPU, GiB", "gpu_watts": "GPU, W"}
    seen = {
        name: title
        for name, title in columns.items()
        if any(getattr(one, name) is not None for one in results.levels)
    }
    text = "Peak memory of the server's processes and GPUs, mean power."
    if absent := results.machine_absent:
        text += f" Not available: {absent}."
    rows = [[_users(level), *(_number(level.mean(name)) for name in seen)] for level in results.levels]
    return Section("Machine", text, ["users", *seen.values()] if seen else [], rows if seen else [])


def _beside(results: Results, beside: list[Series]) -> Section:
    ours = {level.users: level for level in results.levels}
    rows = []
    for users in sorted({*ours, *(users for series in beside for users in series.aggregate)}):
        ours_here = _number(ours[users].mean("tokens_per_s")) if users in ours else "–"
        rows.append([str(users), ours_here, *(_cell(series, users) for series in beside)])
    text = "Tokens/s of all users. " + " ".join(series.told for series in beside)
    for series in beside:
        text += "".join(f" {series.name}, {users} users: {why}." for users, why in series.wrong.items())
    return Section(
        "Comparison with others", text, ["users", "this", *(series.name for series in beside)], rows
    )


def _cell(series: Series, users: int) -> str:
    return _number(series.aggregate.get(users)) + ("!" if users in series.wrong else "")


def _users(level: Level) -> str:
    return f"{level.users}{'!' if level.doubts else ''}"


def _number(value: Any) -> str:
    """Three significant digits, whole numbers from 100 on; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
