"""The description of a checkpoint's run: what it is, what was proved and measured, how to repeat it.

It is composed again after every command, from the tags and metrics of the runs alone.
"""

import re
from collections.abc import Iterable
from typing import Any

from proofcard.screen import in_markdown
from proofcard.tracking_headlines import HEADLINES, headline_of, is_headline
from proofcard.tracking_links import run_path

NOTE = "mlflow.note.content"
COMMAND_LINE, COMMIT, DIRTY, LOCK = (
    "command_line", "mlflow.source.git.commit", "git.dirty", "uv.lock.sha256"
)  # fmt: skip
_LONGEST = 7000  # bytes of a tag: MLflow takes 8000 characters
_RUNS = 20  # the newest, in the list
_LEVELS = ("integrity", "structure", "weights", "samples", "calibration", "signature")


def of_command(tags: dict[str, str]) -> str:
    """The description of a command's run: the command, and what it ran from."""
    lines = [*_shell(tags.get(COMMAND_LINE)), *_surroundings(tags)]
    return "\n".join(lines)


def of_checkpoint(run: Any, children: list[Any]) -> str:
    """The description of a checkpoint's run. `children` are the runs of commands on it, the newest first."""
    tags = run.data.tags
    name = in_markdown(run.info.run_name)
    summary = tags.get("summary", "")
    lines = [f"**{name}**: {in_markdown(summary) if summary else 'a quantized checkpoint'}", ""]
    lines += [_first(run, children), ""]  # the pages fold the description up after three lines
    lines += _what(tags, _newest(children, "publish"))
    lines += _verified(children)
    lines += _numbers(run, children)
    lines += _made(children)
    lines += _verify(children)
    lines += _runs(children)
    return _cut(lines)


def _cut(lines: list[str]) -> str:
    """As many lines as fit into a tag."""
    text, left = [], _LONGEST
    for line in lines:
        left -= len(line.encode()) + 1
        if left < 0:
            break
        text.append(line)
    return "\n".join(text)


def _first(run: Any, children: list[Any]) -> str:
    """What was proved and measured, in a line."""
    newest = _newest(children, "verify")
    said = [in_markdown(newest.data.tags.get("result", "")) if newest is not None else "not verified yet"]
    said += [f"{_code(name)} {headline_of(name).written(value)}" for name, value in _headlines(run)]
    return " · ".join(filter(None, said))


def _headlines(run: Any) -> list[tuple[str, float]]:
    """The headline numbers in their order."""
    order = {headline.name: place for place, headline in enumerate(HEADLINES)}
    known = [(name, value) for name, value in run.data.metrics.items() if is_headline(name)]
    return sorted(known, key=lambda each: (order[headline_of(each[0]).name], each[0]))


def _what(tags: dict[str, str], published: Any) -> list[str]:
    rows = [["key", _code(tags["key"])]]
    for name, title in (
        ("made_from", "from"), ("calibrated_with", "calibrated with"), ("content", "content")
    ):  # fmt: skip
        if name in tags:
            rows.append([title, in_markdown(tags[name])])
    if published is not None and "commit" in published.data.tags:
        where = published.data.tags
        rows.append(["published", in_markdown(f"{where.get('repository')} at {where['commit']}")])
    return _table(["", ""], rows)


def _verified(children: list[Any]) -> list[str]:
    newest = _newest(children, "verify")
    if newest is None:
        return ["### Verified", "", "Not yet: see the command below.", ""]
    tags = newest.data.tags
    rows = [
        [name, in_markdown(tags.get(f"level.{name}", "not requested"))]
        for name in _LEVELS
        if f"level.{name}" in tags or name in _LEVELS[:3]
    ]
    title = f"### Verification: {in_markdown(tags.get('result', 'unknown'))}"
    return [title, "", f"By {_link(newest)}.", "", *_table(["level", "result"], rows)]


def _numbers(run: Any, children: list[Any]) -> list[str]:
    rows = []
    for name, value in _headlines(run):
        headline = headline_of(name)
        source = next((child for child in children if name in child.data.metrics), None)
        rows.append([_code(name), headline.written(value), headline.title, _link(source) if source else "–"])
    if not rows:
        return []
    return ["### Headline numbers", "", *_table(["metric", "value", "what it is", "from"], rows)]


def _made(children: list[Any]) -> list[str]:
    newest = _newest(children, "quantize")
    if newest is None:
        return []
    tags = newest.data.tags
    return ["### Made by", "", *_shell(tags.get(COMMAND_LINE)), *_surroundings(tags)]


def _verify(children: list[Any]) -> list[str]:
    newest = _newest(children, "verify") or _newest(children, "quantize")
    if newest is None:
        return []
    command = newest.data.tags.get("verify_with") or newest.data.tags.get(COMMAND_LINE)
    return ["### Verify it", "", *_shell(command)]


def _runs(children: list[Any]) -> list[str]:
    rows = [
        [_link(child), _outcome(child), child.info.status.lower()] for child in reversed(children[:_RUNS])
    ]
    return ["### Runs", "", *_table(["run", "result", "state"], rows)] if rows else []


def _outcome(child: Any) -> str:
    tags = child.data.tags
    for name in ("result", "outcome", "verdict", "finding", "truth"):
        if name in tags:
            return in_markdown(tags[name])
    return ""


def _newest(children: Iterable[Any], command: str) -> Any:
    """The newest run of a command, a complete one if there is any."""
    found = [child for child in children if child.data.tags.get("command") == command]
    return next((child for child in found if child.info.status == "FINISHED"), next(iter(found), None))


def _surroundings(tags: dict[str, str]) -> list[str]:
    said = []
    if COMMIT in tags:
        changed = ", with changes that are not committed" if tags.get(DIRTY) == "true" else ""
        said.append(f"commit {_code(tags[COMMIT])}{changed}")
    if LOCK in tags:
        said.append(f"uv.lock sha256 {_code(tags[LOCK])}")
    if "python" in tags:
        said.append(f"Python {in_markdown(tags['python'])}")
    return ["; ".join(said), ""] if said else []


def _shell(command: str | None) -> list[str]:
    if not command:
        return ["The command was not recorded.", ""]
    longest = max((len(ticks) for ticks in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)  # a quoted argument may hold what closes a block
    return [f"{fence}sh", command, fence, ""]


def _link(run: Any) -> str:
    page = run_path(run.info.experiment_id, run.info.run_id)
    return f"[{in_markdown(str(run.info.run_name))}]({page})"


def _code(text: str) -> str:
    return f"`{text.replace('`', ' ')}`"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
