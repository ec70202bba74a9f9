"""Results told: throughput, latency, what the machine gave, other measurements beside, and every doubt."""

from dataclasses import dataclass
from typing import Any

from proofcard.benchmark import points
from proofcard.config.benchmarking import Published
from proofcard.documents.benchmark import Level, Results
from proofcard.reports import Section, markdown
from proofcard.screen import in_markdown


@dataclass(frozen=True)
class Series:
    """Somebody's tokens/s by users, to stand beside; `wrong` are rows that contradict themselves."""

    name: str
    told: str
    aggregate: dict[int, float]
    per_user: dict[int, float]
    wrong: dict[int, str]


def of_published(found: Published) -> Series:
    """A published table."""
    told = f"{found.source}: {found.setting}."
    return Series(found.name, told, found.aggregate, found.per_user, points.impossible(found))


def of_earlier(name: str, results: Results, differs: list[str]) -> Series:
    """Earlier results of ours; `differs` names what was configured otherwise."""
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
    """What was measured, in this order."""
    found = [_throughput(results), _latency(results), _machine(results)]
    if beside:
        found.append(_beside(results, beside))
    doubts = [[str(level.users), said] for level in results.levels for said in level.doubts]
    if not results.complete:
        doubts.insert(0, ["all", "it was interrupted: not every start went through every level"])
    said = "Nothing speaks against the figures." if not doubts else "Levels marked ! and why."
    return [*found, Section("Doubts", said, ["users", "doubt"] if doubts else [], doubts)]


def page(results: Results, found: list[Section]) -> str:
    """The report as Markdown."""
    return "\n".join([f"# {in_markdown(results.name)}", "", *markdown(found)]) + "\n"


def _throughput(results: Results) -> Section:
    load, starts = results.load, len(results.starts)
    said = (
        f"{results.server.told}, {starts} start{'s' if starts > 1 else ''} of it, "
        f"{load['output_tokens']}-token answers to prompts of {load['input_tokens']} tokens; "
        f"tokens counted by the {'server' if results.usage else 'tokenizer'}. Mean over the starts, "
        "and least to most. A user's: tokens over the seconds waited. Client: the share that may be its own."
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
    return Section("Throughput", said, ["users", "requests", "tokens/s", "range", "a user's", "client"], rows)


def _latency(results: Results) -> Section:
    said = "p50 / p90 / p99 of a start's requests, mean over the starts."
    rows = [
        [_users(level), *(_spread(level, name) for name in ("first_ms", "each_ms", "request_s"))]
        for level in results.levels
    ]
    return Section("Latency", said, ["users", "first token, ms", "then each, ms", "request, s"], rows)


def _spread(level: Level, name: str) -> str:
    return " / ".join(_number(level.mean(f"{name}_p{share}")) for share in (50, 90, 99))


def _machine(results: Results) -> Section:
    columns = {"rss_gib": "memory, GiB", "gpu_gib": "GPU, GiB", "gpu_watts": "GPU, W"}
    seen = {
        name: title
        for name, title in columns.items()
        if any(getattr(one, name) is not None for one in results.levels)
    }
    said = "Peak memory of the server's processes and GPUs, mean power."
    if absent := results.machine_absent:
        said += f" Not all can be told: {absent}."
    rows = [[_users(level), *(_number(level.mean(name)) for name in seen)] for level in results.levels]
    return Section("Machine", said, ["users", *seen.values()] if seen else [], rows if seen else [])


def _beside(results: Results, beside: list[Series]) -> Section:
    ours = {level.users: level for level in results.levels}
    rows = []
    for users in sorted({*ours, *(users for series in beside for users in series.aggregate)}):
        own = _number(ours[users].mean("tokens_per_s")) if users in ours else "–"
        rows.append([str(users), own, *(_cell(series, users) for series in beside)])
    said = "Tokens/s, all users together. " + " ".join(series.told for series in beside)
    for series in beside:
        said += "".join(f" {series.name}, {users} users: {why}." for users, why in series.wrong.items())
    return Section("Beside others", said, ["users", "this", *(series.name for series in beside)], rows)


def _cell(series: Series, users: int) -> str:
    return _number(series.aggregate.get(users)) + ("!" if users in series.wrong else "")


def _users(level: Level) -> str:
    return f"{level.users}{'!' if level.doubts else ''}"


def _number(value: Any) -> str:
    """Three digits that count, whole numbers from 100 on; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
