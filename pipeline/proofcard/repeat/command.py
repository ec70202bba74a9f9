"""`repeat`: the same greedy request many times, alone and under load."""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.benchmark import results
from proofcard.config import compose
from proofcard.config.repeat import RepeatConfig
from proofcard.digest import readable_json, sha256_json
from proofcard.documents.repeat import RepeatReport
from proofcard.errors import Usage
from proofcard.progress import shown
from proofcard.repeat import comparing, report
from proofcard.repeat.asking import Answers, alone, loaded, request
from proofcard.reports import markdown, show
from proofcard.serve.target import Reachable, check, reached
from proofcard.tracking import Tracker

NUMBERS, ANSWERS = "repeat.json", "answers.json"
_CONFIDENCE = 0.95
_STATUS = {"REPEATABLE": 0, "NOT REPEATABLE": 1, "NOT SHOWN": 2}


def run(overrides: list[str]) -> int:
    """Compose, check, ask, compare, show. Returns 0 for one answer, 1 for several, 2 where it was not shown.

    Raises:
        Usage: when nothing can be asked as configured.
        Stop: when the server fails.
    """
    config = compose(RepeatConfig, "repeat", overrides)
    folder, result = execute(config)
    tables = partial(show, report.sections(result))
    outcome.present(result, tables, f"report, numbers and answers: {shown(folder)}")
    return _STATUS[result.finding]


def execute(config: RepeatConfig) -> tuple[Path, RepeatReport]:
    """Ask and compare; the folder of the results and the report. Raises as `run` does."""
    if config.tokenizer is not None and not (config.tokenizer / "tokenizer.json").is_file():
        raise Usage(f"tokenizer={config.tokenizer} has no tokenizer.json: use the model's folder")
    server = check(config, config.serving, config.work_dir)
    tokens = comparing.tokenizer(config.tokenizer or server.endpoint.tokenizer)
    with (
        tracking.opened(
            config.tracking,
            "repeat",
            config.work_dir,
            subject=server.subject,
            name=f"repeat {config.repeat.name}",
        ) as tracker,
        results.new_folder(config.work_dir / "repeat", config.repeat.name) as folder,
    ):
        tracker.params({"repeat": config.repeat.identity()})
        tracker.tags({"server": server.label, "key": server.key or "unknown"})
        with reached(server, tracker) as endpoint:
            answers = {"alone": alone(endpoint, config.repeat), "loaded": loaded(endpoint, config.repeat)}
        done = _report(config, server, answers["alone"], answers["loaded"], tokens)
        _leave(folder, done, answers, tracker)
    return results.final(folder), done


def _report(
    config: RepeatConfig,
    server: Reachable,
    alone: Answers,
    loaded: Answers,
    tokens: comparing.Tokens | None,
) -> RepeatReport:
    usual = comparing.usual(alone, loaded)
    first = comparing.phase(alone, usual, _CONFIDENCE, tokens)
    second = comparing.phase(loaded, usual, _CONFIDENCE, tokens)
    distinct = len({*alone.texts, *loaded.texts})
    asked = request(server.endpoint, config.repeat, config.repeat.prompt, config.repeat.max_tokens)
    return RepeatReport(
        name=config.repeat.name,
        finding=comparing.finding([first, second], distinct),
        server=server.described(config.serving),
        request=sha256_json(asked | {"model": ""}),
        max_tokens=config.repeat.max_tokens,
        users=config.repeat.users,
        confidence=_CONFIDENCE,
        distinct=distinct,
        phases={"alone": first, "loaded": second},
        variants=comparing.variants(alone, loaded, usual, tokens),
    )


def _leave(folder: Path, done: RepeatReport, answers: dict[str, Answers], tracker: Tracker) -> None:
    """The report and the answers into their folder and the tracked run."""
    results.write(folder, ANSWERS, readable_json({name: each.texts for name, each in answers.items()}))
    page = "\n".join([f"# {done.name}: {done.finding}", "", *markdown(report.sections(done))]) + "\n"
    results.leave(folder, NUMBERS, done, page, tracker, "repeat")
    tracker.metrics({"distinct_answers": float(done.distinct)})
    tracker.numbers(report.numbers(done), "repeat/numbers.json")
    tracker.tags({"finding": done.finding})
