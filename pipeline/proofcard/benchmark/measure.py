"""The measurement: every start of the server through every level, then the client alone; saved by level."""

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
from proofcard.serve.client import NoAnswer, check_address, first_model
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, prepare
from proofcard.tracking import Tracker

_LONGEST_NAME = 80  # characters of each part of a name
_CLIENT = "client"  # folders of aiperf's own files, of which nothing is kept


def name_of(config: BenchmarkConfig) -> str:
    """What results are called: what is measured and by which load."""
    if config.serving is not None and config.checkpoint is not None:
        words = [config.checkpoint.absolute().name, config.serving.name]
    else:
        assert config.model is not None
        words = [config.model]
    return ".".join(_in_a_name(word) for word in [*words, config.benchmark.name])


def _in_a_name(word: str) -> str:
    """A word as a part of a folder's name; one that loses much to it gets its digest instead."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", word).strip("-")
    if plain and len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[:_LONGEST_NAME]}-{sha256_json(word)[:8]}".lstrip("-")


def settled(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same with the name of the model that a running server has.

    Raises:
        Usage: when it does not answer, or something else given with it is wrong.
    """
    if config.endpoint is None:
        return config
    if config.tokenizer is not None:
        _check_tokenizer(config.tokenizer)
    url = config.endpoint.rstrip("/")
    if not url.endswith("/v1"):
        raise Usage(f"endpoint={config.endpoint} should end in /v1, as in http://127.0.0.1:8000/v1")
    try:
        check_address(url)
    except ValueError as error:
        raise Usage(f"endpoint={config.endpoint} is no address of a server: {error}") from None
    key = read_key(config.api_key_file, "api_key_file")
    try:
        model = config.model or first_model(url, key)
    except NoAnswer as error:
        raise Usage(f"{url}/models names no model ({error}): is the server up? Or give model=NAME") from None
    if flaw := load.unusable(model):
        raise Usage(f"the model's name, {quoted(model)}, {flaw}: serve it under another, or give model=NAME")
    load.check(url, str(config.tokenizer), str(config.work_dir.absolute()))
    return config.model_copy(update={"endpoint": url, "model": model})


def _check_tokenizer(folder: Path) -> None:
    try:
        check_handed(folder)
        located(folder / "tokenizer_config.json", folder)
    except FileNotFoundError:
        raise Usage(f"tokenizer={folder} has no tokenizer_config.json: give the model's folder") from None
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
    """Results that grow, saved in a folder after every level."""

    def __init__(self, results: Results, folder: Path) -> None:
        self.results, self.folder = results, folder

    def update(self, **fields: Any) -> None:
        """Set fields of the results."""
        self.results = self.results.model_copy(update=fields)

    def add(self, number: int, start: Start, benchmark: Benchmark) -> None:
        """What the `number`th start, counted from 1, has come to, and the levels over all starts."""
        self.update(starts=[*self.results.starts[: number - 1], start])
        self.summarise(benchmark)

    def summarise(self, benchmark: Benchmark) -> None:
        """The starts' points by level, with what the client was found to cost and every doubt; saved."""
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
    """The engine to start, if one is to be started.

    Raises:
        Usage: when it cannot be started as configured.
    """
    if config.serving is None or config.checkpoint is None:
        return None
    found = prepare(config.serving, config.checkpoint, config.work_dir)
    if found.endpoint.tokenizer is None:
        raise Usage(f"{config.checkpoint} has no tokenizer_config.json: prompts cannot be made")
    load.check(found.endpoint.model, str(config.checkpoint), str(config.work_dir.absolute()))
    return found


def measure(config: BenchmarkConfig, first: Prepared | None, found: Measurement, tracker: Tracker) -> None:
    """Fill `found`. `first` is the engine's first start.

    Raises:
        Usage: when the server cannot be asked as configured.
        Stop: when it or the client fails.
    """
    benchmark = config.benchmark
    for number in range(1, (1 if first is None else benchmark.restarts) + 1):
        engine = first if number == 1 else prepared(config)
        with _served(config, engine, number, tracker) as target, tracker.stage(f"start {number}"):
            if number == 1:
                dialect = dialect_of(target, benchmark.temperature, benchmark.output_tokens)
                found.update(dialect=dialect.name, usage=dialect.usage)
                tokenizer = target.tokenizer or Path()
            measured: list[Point] = []
            tracker.metrics({"serve/ready_seconds": target.ready_s})
            ours = found.folder / f"{_CLIENT}-{number}"
            with closing(_points(benchmark, target, dialect, ours, f"start {number}", found)) as points:
                for each in points:
                    measured.append(each)
                    found.add(number, Start(ready_s=target.ready_s, points=[*measured]), benchmark)
                    tracker.metrics(_numbers(each), step=each.users)
            found.update(prompts_sha256=sha256_json(load.prompts(ours)), aiperf=load.version(ours))
    _measure_client(benchmark, found, tokenizer)
    found.update(complete=True)
    found.summarise(benchmark)


@contextmanager
def _served(
    config: BenchmarkConfig, engine: Prepared | None, number: int, tracker: Tracker
) -> Iterator[Endpoint]:
    """A server to measure, started here for the `number`th time or found running, its known answers right."""
    if engine is None:
        assert config.endpoint is not None and config.model is not None
        key, pid = read_key(config.api_key_file, "api_key_file"), listener(config.endpoint) or 0
        found = Endpoint(config.endpoint, config.model, key, config.tokenizer, "", pid, Path(os.devnull))
        _examine(config, found, tracker)
        yield found
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
    found: Measurement | None,
) -> Generator[Point, None, None]:
    """Each level's point once its last request has come; `ours` is aiperf's folder."""
    sent: dict[int, list[load.Request]] = {users: [] for users in benchmark.levels}
    total = sum(benchmark.requests(users) for users in benchmark.levels)
    with Watch(target.pid or None) as watch, Bar(title, total, "requests") as bar:
        if found is not None:
            found.update(machine_absent=watch.absent)
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
        raise Stop(f"aiperf ended before {short[0]} users were through: see {ours / 'aiperf.log'}")


def _measure_client(benchmark: Benchmark, found: Measurement, tokenizer: Path) -> None:
    """The same load on an endpoint without a model; levels where every request failed have no pace."""
    levels = [level for level in found.results.levels if level.each_ms_mean is not None]
    if not levels:
        raise Stop(f"every request failed, the first with: {found.results.levels[0].first_failure}")
    same = benchmark.model_copy(update={"levels": tuple(level.users for level in levels)})
    paces = client_cost.paces(same, levels)
    dialect = Dialect("ignore_eos", {}, "max_completion_tokens", usage=True)
    with client_cost.null(paces, tokenizer) as target:
        points = _points(same, target, dialect, found.folder / f"{_CLIENT}-alone", "client alone", None)
        with closing(points) as alone:
            for pace, seen in zip(paces, alone, strict=True):
                share = client_cost.share(seen.users, pace, benchmark.output_tokens, seen)
                found.update(client=[*found.results.client, share])


def _server(config: BenchmarkConfig) -> Server:
    if config.serving is None or config.checkpoint is None:
        told = f"{quoted(config.model or '')} by a server that was running"
        return Server(told=told, key=None, model=config.model)
    try:
        key = manifest.read(config.checkpoint).key
    except manifest.NeverSealed:
        key = None
    except Stop as error:
        raise Usage(str(error)) from None
    checkpoint = config.checkpoint.absolute().name
    return Server(told=f"{checkpoint} by {config.serving.name}", key=key, checkpoint=checkpoint)


def _line(done: Point) -> str:
    users = f"{done.users} user{'s' if done.users > 1 else ''}"
    failed = f", {done.failed} of {done.requests} requests failed" if done.failed else ""
    if done.tokens_per_s is None:
        return users + failed
    return f"{users}: {done.tokens_per_s:.1f} tokens/s, first {done.first_ms_p50:.0f} ms{failed}"


def _numbers(done: Point) -> dict[str, float]:
    numbers = done.model_dump(exclude={"users", "first_failure"}, exclude_none=True)
    return {name: float(value) for name, value in numbers.items()}
