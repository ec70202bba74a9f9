"""The load: aiperf as a process of its own, through all levels in one run, and its record of each request.

aiperf takes seconds to start and is started once for all levels, each a phase of its run, behind a phase of
requests that are not counted. A record is read as soon as it is written.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from proofcard import children
from proofcard.benchmark.answer_length import Dialect
from proofcard.calibration import tokenizer
from proofcard.config.benchmarking import Benchmark
from proofcard.environments import program
from proofcard.errors import Stop, Usage
from proofcard.progress import shown
from proofcard.screen import printable, quoted
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.logs import both_ends
from proofcard.serve.process import Supervised

_KEY = "PROOFCARD_BENCHMARK_KEY"  # the variable through which aiperf's configuration names the API key
_LOOK_EVERY_S = 0.25
_GRACE_S = 3.0  # for aiperf to end its own processes; what is left then is ended for it
_COUNTED = "users-"
_TEMPLATE = ("{{", "{%", "{#", "${")  # what aiperf's configuration is searched for
_LONGEST = 4096  # characters of a name or a path
_LINE = 1 << 20  # bytes of a record
_TOO_MANY, _FEW = 2, 16  # no answer has more than so many times the tokens asked for, and so many more
# aiperf's own parts wait 30 s for each other, which is not enough on a machine that is busy loading a model.
_PATIENCE = "300"
_PATIENT = (
    "REGISTRATION_TIMEOUT",
    "REGISTRATION_MAX_ATTEMPTS",
    "START_TIMEOUT",
    "PROFILE_START_TIMEOUT",
    "COMMAND_RESPONSE_TIMEOUT",
    "CONNECTION_PROBE_TIMEOUT",
)


@dataclass(frozen=True)
class Request:
    """A counted request, times in seconds of the client's clock; of a failed one, when it was sent and why.

    `tokens` are those of the answer and `input_tokens` those of the prompt, as the server counts them, or as
    the tokenizer does where it does not. `each` is the mean time between tokens after the first.
    """

    users: int
    start: float
    latency: float
    first: float
    each: float
    tokens: int
    input_tokens: int
    error: str | None

    @property
    def end(self) -> float:
        """When the last token had come."""
        return self.start + self.latency


def requests(benchmark: Benchmark, target: Endpoint, dialect: Dialect, folder: Path) -> Iterator[Request]:
    """Put the load on `target`, and give each counted request when its answer has come. `folder` is aiperf's.

    Raises:
        Stop: when aiperf fails, with the last it said.
    """
    assert target.tokenizer is not None
    folder.mkdir()
    (folder / "tmp").mkdir()
    words = folder / "tokenizer" / target.tokenizer.resolve().name
    tokenizer.copied(target.tokenizer, words)
    order = folder / "aiperf.json"  # JSON is YAML
    order.write_text(json.dumps(_order(benchmark, target, dialect, folder, words)))
    end = time.monotonic() + _longest_s(benchmark)
    memory = psutil.virtual_memory().available // 2
    argv = (str(program("bench", "aiperf")), "profile", "--config", str(order), "--ui", "none")
    log = folder / "aiperf.log"
    with Supervised(argv, _environment(target, folder), log, _GRACE_S) as client:
        records = _Lines(folder / "profile_export.jsonl")
        while not client.ended():
            yield from _counted(records.new(), benchmark)
            if time.monotonic() > end:
                raise Stop(f"aiperf was ended: it should have been through by now: see {shown(log)}")
            if client.memory() > memory:
                raise Stop(
                    f"aiperf was ended: it took more than {memory / 2**30:.1f} GiB, "
                    "as it does when answers are endless"
                )
            time.sleep(_LOOK_EVERY_S)
        yield from _counted(records.new(), benchmark)
        if client.status() != 0:
            raise Stop(
                f"aiperf failed with exit status {client.status()} ({_last_word(log)}): see {shown(log)}"
            )


def prompts(folder: Path) -> list[Any]:
    """The conversations that aiperf has sent, in order, without the name of the model.

    Raises:
        Stop: when aiperf has not written them.
    """
    with _of_aiperf(folder / "inputs.json") as said:
        return [[payload["messages"] for payload in entry["payloads"]] for entry in said["data"]]


def version(folder: Path) -> str:
    """The version of aiperf as its export names it. Raises Stop when there is none."""
    with _of_aiperf(folder / "profile_export_aiperf.json") as said:
        return str(said["aiperf_version"])


@contextmanager
def _of_aiperf(path: Path) -> Iterator[Any]:
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise Stop(f"{shown(path)}, which aiperf writes, cannot be read: {quoted(str(error))}") from None


def unusable(name: str) -> str | None:
    """Why aiperf may not be given a text that came from elsewhere; None when it may.

    Its configuration is a template: `{{ … }}` in it is run as code, `${…}` becomes a variable of the
    environment, also a secret one.
    """
    if any(mark in name for mark in _TEMPLATE):
        return "holds a mark that aiperf would take for a template"
    if len(name) > _LONGEST or printable(name) != name or not name.strip() or "\n" in name or "\t" in name:
        return f"is not a name on one line, of {_LONGEST} characters at most"
    return None


def check(*texts: str) -> None:
    """Raises Usage for a text that is `unusable`."""
    for text in texts:
        if flaw := unusable(text):
            raise Usage(f"{quoted(text)} {flaw}: choose another name")


def _longest_s(benchmark: Benchmark) -> float:
    """More seconds than aiperf can need when every request takes all of its time."""
    waves = sum(benchmark.warmup_waves + benchmark.requests(users) // users for users in benchmark.levels)
    return 4 * float(_PATIENCE) + 1.2 * waves * benchmark.request_timeout_s


def _order(
    benchmark: Benchmark, target: Endpoint, dialect: Dialect, folder: Path, words: Path
) -> dict[str, Any]:
    check(target.model, str(words), str(folder.absolute()), target.url)
    phases: list[dict[str, Any]] = []
    for users in benchmark.levels:
        shared = {"type": "concurrency", "concurrency": users}
        warm = {"name": f"warm-{users}", "kind": "warmup", "exclude_from_results": True}
        phases.append(warm | shared | {"requests": benchmark.warmup_waves * users})
        counted = {"name": f"{_COUNTED}{users}", "kind": "profiling"}
        phases.append(counted | shared | {"requests": benchmark.requests(users)})
    endpoint = {
        "urls": [target.url.removesuffix("/v1")],
        "type": "chat",
        "streaming": True,
        "use_server_token_count": dialect.usage,
        "use_legacy_max_tokens": dialect.length == "max_tokens",
        "timeout": benchmark.request_timeout_s,
        "extra": dialect.extra,
    }
    if target.api_key is not None:
        endpoint["api_key"] = f"${{{_KEY}}}"
    dataset = {
        "type": "synthetic",
        "entries": sum(phase["requests"] for phase in phases),  # no prompt twice: a server keeps prefixes
        "sampling": "sequential",
        "random_seed": benchmark.seed,
        "prompts": {"isl": benchmark.input_tokens, "osl": benchmark.output_tokens},
    }
    return {
        "random_seed": benchmark.seed,
        "benchmark": {
            "models": [target.model],
            "endpoint": endpoint,
            "dataset": dataset,
            "phases": phases,
            "artifacts": {"dir": str(folder.absolute()), "records": ["jsonl"]},
            "tokenizer": {"name": str(words.absolute())},
            "gpu_telemetry": {"enabled": False},
            "server_metrics": {"enabled": False},
        },
    }


def _environment(target: Endpoint, folder: Path) -> dict[str, str]:
    # With these two set aiperf looks for a local tokenizer in the hub's cache, and fails.
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    own = {
        "AIPERF_RECORD_EXPORT_BATCH_SIZE": "1",
        "AIPERF_DATASET_MMAP_CACHE_ENABLED": "false",
        "AIPERF_DATASET_MMAP_BASE_PATH": str((folder / "tmp").absolute()),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    own |= {f"AIPERF_SERVICE_{name}": _PATIENCE for name in _PATIENT}
    if target.api_key is not None:
        own[_KEY] = target.api_key
    inherited = children.environment()
    return {name: value for name, value in inherited.items() if name not in offline} | own


class _Lines:
    """A file of JSON lines that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """What is complete and was not given yet."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            while line := file.readline(_LINE):
                if not line.endswith(b"\n") and len(line) < _LINE:
                    return
                self._read += len(line)
                yield json.loads(line)


def _counted(records: Iterator[dict[str, Any]], benchmark: Benchmark) -> Iterator[Request]:
    """The requests of counted phases.

    Raises:
        Stop: for a record that is none: figures from it would be anybody's guess.
    """
    try:
        for record in records:
            if str(record["metadata"]["phase_name"]).startswith(_COUNTED):
                request = _request(record, benchmark.output_tokens)
                if request.users not in benchmark.levels:
                    raise ValueError(f"a phase of {request.users} users")
                yield request
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Stop(f"a record of aiperf cannot be read: {quoted(str(error))}") from None


def _request(record: dict[str, Any], output_tokens: int) -> Request:
    about, found = record["metadata"], record["metrics"]
    users = int(about["phase_name"].removeprefix(_COUNTED))
    start = about["request_start_ns"] / 1e9
    lasted = about["request_end_ns"] / 1e9 - start

    def value(name: str) -> float:
        number = float(found[name]["value"]) if name in found else 0.0
        if not math.isfinite(number):
            raise ValueError(f"{name} is {number}")
        return number

    def failed(reason: str) -> Request:
        return Request(users, start, lasted, 0, 0, 0, 0, quoted(reason))

    if record.get("error"):
        said = record["error"]
        return failed(f"{said.get('type')}: {said.get('message')}" if isinstance(said, dict) else str(said))
    tokens, prompt = int(value("output_sequence_length")), int(value("input_sequence_length"))
    if not 0 < tokens <= _TOO_MANY * output_tokens + _FEW or prompt < 0:  # as the server counts, perhaps
        return failed(f"{value('output_sequence_length'):.4g} tokens counted, {output_tokens} asked for")
    times = [value(n) / 1000 for n in ("request_latency", "time_to_first_token", "inter_token_latency")]
    latency, first, each = times
    if latency <= 0 or min(times) < 0:
        return failed("its times make no sense")
    return Request(users, start, latency, first, each, tokens, prompt, error=None)


def _last_word(log: Path) -> str:
    """The last error in a log, or else its last line."""
    lines = [" ".join(line.strip(" │╭╰─╮╯").split()) for line in both_ends(log).split("\n")]
    said = [line for line in lines if " ERROR " in line] or [line for line in lines if line]
    return quoted(said[-1].rpartition(" ERROR ")[2]) if said else "it said nothing"
