"""The measurement: all levels at each start of the server, then the client alone; saved by level."""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from proofcard import manifest
from proofcard.benchmark import client_cost, load, results
from proofcard.benchmark.answer_length import Dialect, dialect_of
from proofcard.benchmark.points import doubts, over_starts, point
from proofcard.benchmark.resources import Watch, listener
from proofcard.config.benchmarking import Benchmark, BenchmarkConfig
from proofcard.digest import sha256_json
from proofcard.documents.benchmark import Point, Results, Server, Start
from proofcard.documents.serving import KnownAnswers
from proofcard.errors import Stop, Usage
from proofcard.files import check_handed, located
from proofcard.progress import Bar, console
from proofcard.reports import show
from proofcard.screen import Screen, quoted
from proofcard.serve import session, truth
from proofcard.serve.address import read_key
from proofcard.serve.client import NoAnswer, check_address, first_model, no_model
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, prepare
from proofcard.tracking import Tracker

_LONGEST_NAME = 80  # characters of each part of a name
_CLIENT = "client"  # folders of aiperf's own files, which are deleted


def name_of(config: BenchmarkConfig) -> str:
    """The name of results: what is measured and with which load."""
    if config.serving is not None and config.checkpoint is not None:
        words = [config.checkpoint.absolute().name, config.serving.name]
    else:
        assert config.model is not None
        words = [config.model]
    return ".".join(_in_a_name(word) for word in [*words, config.benchmark.name])


def _in_a_name(word: str) -> str:
    """A word as part of a folder name; one that would be changed too much gets its digest instead."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", word).strip("-")
    if plain and len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[:_LONGEST_NAME]}-{sha256_json(word)[:8]}".lstrip("-")


def resolved(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same with the name of the model that a running server has.

    Raises:
        Usage: when it does not answer, or its options are wrong.
    """
    if config.endpoint is None:
        return config
    if config.tokenizer is not None:
        _check_tokenizer(config.tokenizer)
    url = config.endpoint.rstrip("/")
    if not url.endswith("/v1"):
        raise Usage(f"endpoint={config.endpoint} must end in /v1, as in http://127.0.0.1:8000/v1")
    try:
        check_address(url)
    except ValueError as error:
        raise Usage(f"endpoint={config.endpoint} is not the address of a server: {error}") from None
    key = read_key(config.api_key_file, "api_key_file")
    try:
        model = config.model or first_model(url, key)
    except NoAnswer as error:
        raise Usage(no_model(url, error)) from None
    if flaw := load.unusable(model):
        raise Usage(
            f"the model's name, {quoted(model)}, {flaw}: serve it under another name, or set model=NAME"
        )
    load.check(url, str(config.tokenizer), str(config.work_dir.absolute()))
    return config.model_copy(update={"endpoint": url, "model": model})


def _check_tokenizer(folder: Path) -> None:
    try:
        check_handed(folder)
        located(folder / "tokenizer_config.json", folder)
    except FileNotFoundError:
        raise Usage(
            f"tokenizer={folder} has no tokenizer_config.json: set it to the model's folder"
        ) from None
    except Stop as error:
        raise Usage(f"tokenizer={folder}: {error}") from None


def begun(config: BenchmarkConfig) -> Results:
    """Results before anything is measured."""
    return Results(
        name=name_of(config),
        load=config.benchmark.identity(),
        serving=config.serving.identity() if config.serving else None,
        server=_server(config),
    )


class Measurement:
    """Results in progress, saved in a folder after every level."""

    def __init__(self, results: Results, folder: Path) -> None:
        self.results, self.folder = results, folder

    def update(self, **fields: Any) -> None:
        """Set fields of the results."""
        self.results = self.results.model_copy(update=fields)

    def add(self, number: int, start: Start, benchmark: Benchmark) -> None:
        """Add the points of the `number`th start, counted from 1, and update the levels over all starts."""
        self.update(starts=[*self.results.starts[: number - 1], start])
        self.summarise(benchmark)

    def summarise(self, benchmark: Benchmark) -> None:
        """Summarise the starts' points by level, with the client's overhead and every doubt; save."""
        client_of = {each.users: each for each in self.results.client}
        levels = []
        for users in benchmark.levels:
            each = [point for start in self.results.starts for point in start.points if point.users == users]
            if each:
                level = over_starts(each, client_of.get(users))
                why = doubts(level, benchmark, bool(self.results.usage))
                levels.append(level.model_copy(update={"doubts": why}))
        self.update(levels=levels)
        results.save(self.folder, self.results)


def prepared(config: BenchmarkConfig) -> Prepared | None:
    """The engine to start, if any.

    Raises:
        Usage: when it cannot be started as configured.
    """
    if config.serving is None or config.checkpoint is None:
        return None
    measurement = prepare(config.serving, config.checkpoint, config.work_dir)
    if measurement.endpoint.tokenizer is None:
        raise Usage(f"{config.checkpoint} has no tokenizer_config.json, which is needed to make prompts")
    load.check(measurement.endpoint.model, str(config.checkpoint), str(config.work_dir.absolute()))
    return measurement


def measure(
    config: BenchmarkConfig, first: Prepared | None, measurement: Measurement, tracker: Tracker
) -> None:
    """Fill `found`. `first` is the engine's first start.

    Raises:
        Usage: when the server does not accept requests as configured.
        Stop: when the server or the client fails.
    """
    benchmark = config.benchmark
    for number in range(1, (1 if first is None else benchmark.restarts) + 1):
        engine = first if number == 1 else prepared(config)
        with _served(config, engine, number, tracker) as target, tracker.stage(f"start {number}"):
            if number == 1:
                dialect = dialect_of(target, benchmark.temperature, benchmark.output_tokens)
                measurement.update(dialect=dialect.name, usage=dialect.usage)
                tokenizer = target.tokenizer or Path()
            measured: list[Point] = []
            tracker.metrics({"ready_s": target.ready_s})
            ours = measurement.folder / f"{_CLIENT}-{number}"
            with closing(_points(benchmark, target, dialect, ours, f"start {number}", measurement)) as points:
                for each in points:
                    measured.append(each)
                    measurement.add(number, Start(ready_s=target.ready_s, points=[*measured]), benchmark)
                    tracker.metrics(by_users(_numbers(each)), step=each.users)
            measurement.update(prompts_sha256=sha256_json(load.prompts(ours)), aiperf=load.version(ours))
    _measure_client(benchmark, measurement, tokenizer)
    measurement.update(complete=True)
    measurement.summarise(benchmark)


@contextmanager
def _served(
    config: BenchmarkConfig, engine: Prepared | None, number: int, tracker: Tracker
) -> Iterator[Endpoint]:
    """A server to measure that has passed the known-answer check, started here or already running."""
    if engine is None:
        assert config.endpoint is not None and config.model is not None
        key, pid = read_key(config.api_key_file, "api_key_file"), listener(config.endpoint) or 0
        measurement = Endpoint(
            config.endpoint, config.model, key, config.tokenizer, "", pid, Path(os.devnull)
        )
        _examine(config, measurement, tracker)
        yield measurement
        return
    if number == 1:
        session.describe(tracker, engine)
    with session.opened(engine, tracker, log=f"engine-{number}") as endpoint:
        if number == 1:
            introduced = session.introduced(engine, endpoint, config.truth, tracker)
            show(session.sections(introduced), Screen())
            tracker.text(introduced.text(), f"serve/{session.NAME}")
            _require(config, introduced.known_answers)
        yield endpoint


def _examine(config: BenchmarkConfig, endpoint: Endpoint, tracker: Tracker) -> None:
    known = session.examined(endpoint, config.truth, tracker)
    show([truth.section(known)], Screen())
    tracker.text(known.text(), "serve/truth.json")
    _require(config, known)


def _require(config: BenchmarkConfig, known: KnownAnswers) -> None:
    if config.truth.required:
        truth.require(known)


def _points(
    benchmark: Benchmark,
    target: Endpoint,
    dialect: Dialect,
    ours: Path,
    title: str,
    measurement: Measurement | None,
) -> Generator[Point, None, None]:
    """Yield each level's point once its last request is answered; `ours` is aiperf's folder."""
    sent: dict[int, list[load.Request]] = {users: [] for users in benchmark.levels}
    total = sum(benchmark.requests(users) for users in benchmark.levels)
    with Watch(target.pid or None) as watch, Bar(title, total, "requests") as bar:
        if measurement is not None:
            measurement.update(machine_absent=watch.absent)
        for request in load.requests(benchmark, target, dialect, ours):
            bar.advance()
            level = sent[request.users]
            level.append(request)
            if len(level) == benchmark.requests(request.users):
                seen = watch.between(min(each.start for each in level), max(each.end for each in level))
                done = point(request.users, level, seen)
                console.print(f"{title}: {_line(done)}")
                yield done
    if short := [users for users in benchmark.levels if len(sent[users]) < benchmark.requests(users)]:
        raise Stop(f"aiperf ended before it finished {short[0]} users: see {ours / 'aiperf.log'}")


def _measure_client(benchmark: Benchmark, measurement: Measurement, tokenizer: Path) -> None:
    """Measure the client alone on the null endpoint; levels where every request failed have no pace."""
    levels = [level for level in measurement.results.levels if level.each_ms_mean is not None]
    if not levels:
        raise Stop(f"every request failed, the first with: {measurement.results.levels[0].first_failure}")
    same = benchmark.model_copy(update={"levels": tuple(level.users for level in levels)})
    paces = client_cost.paces(same, levels)
    dialect = Dialect("ignore_eos", {}, "max_completion_tokens", usage=True)
    with client_cost.null(paces, tokenizer) as target:
        points = _points(same, target, dialect, measurement.folder / f"{_CLIENT}-alone", "client alone", None)
        with closing(points) as alone:
            for pace, seen in zip(paces, alone, strict=True):
                share = client_cost.share(seen.users, pace, benchmark.output_tokens, seen)
                measurement.update(client=[*measurement.results.client, share])


def _server(config: BenchmarkConfig) -> Server:
    if config.serving is None or config.checkpoint is None:
        label = f"{quoted(config.model or '')} on a running server"
        return Server(label=label, key=None, model=config.model)
    try:
        key = manifest.read(config.checkpoint).key
    except manifest.NeverSealed:
        key = None
    except Stop as error:
        raise Usage(str(error)) from None
    checkpoint = config.checkpoint.absolute().name
    return Server(label=f"{checkpoint} with {config.serving.name}", key=key, checkpoint=checkpoint)


def _line(done: Point) -> str:
    users = f"{done.users} user{'s' if done.users > 1 else ''}"
    failed = f", {done.failed} of {done.requests} requests failed" if done.failed else ""
    if done.tokens_per_s is None:
        return users + failed
    return f"{users}: {done.tokens_per_s:.1f} tokens/s, first {done.first_ms_p50:.0f} ms{failed}"


_CURVES = ("tokens_per_s", "tokens_per_s_user", "first_ms_p50", "each_ms_p50", "gpu_watts")


def by_users(numbers: dict[str, float]) -> dict[str, float]:
    """The figures that are metrics, at the step of a number of users; tables have all."""
    return {f"by_users/{name}": numbers[name] for name in _CURVES if name in numbers}


def _numbers(done: Point) -> dict[str, float]:
    numbers = done.model_dump(exclude={"users", "first_failure"}, exclude_none=True)
    return {name: float(value) for name, value in numbers.items()}
