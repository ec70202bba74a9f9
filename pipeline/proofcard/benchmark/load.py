"""The load: aiperf as a process of its own, through all levels in one run, and its record of each request.

aiperf takes seconds to start and is started once for all levels, each a phase of its run, behind a phase of
requests that are not counted. A record is read as soon as it is written.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard.benchmark.dialect import Dialect
from proofcard.config.benchmarking import Benchmark
from proofcard.environments import program
from proofcard.errors import Stop
from proofcard.progress import shown
from proofcard.redact import redact
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.process import Supervised

_KEY = "PROOFCARD_BENCHMARK_KEY"  # the variable through which aiperf's configuration names the API key
_LOOK_EVERY_S = 0.25
_GRACE_S = 3.0  # for aiperf to end its own processes; what is left then is ended for it
_COUNTED = "users-"
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
    order = folder / "aiperf.json"  # JSON is YAML
    order.write_text(json.dumps(_order(benchmark, target, dialect, folder)))
    argv = (str(program("bench", "aiperf")), "profile", "--config", str(order), "--ui", "none")
    log = folder / "aiperf.log"
    with Supervised(argv, _environment(target, folder), log, _GRACE_S) as client:
        records = _Lines(folder / "profile_export.jsonl")
        while not client.ended():
            yield from map(_request, filter(_counts, records.new()))
            time.sleep(_LOOK_EVERY_S)
        yield from map(_request, filter(_counts, records.new()))
        if client.status() != 0:
            raise Stop(
                f"aiperf failed with exit status {client.status()} ({_last_word(log)}): see {shown(log)}"
            )


def prompts(folder: Path) -> list[Any]:
    """The conversations that aiperf has sent, in order, without the name of the model."""
    said = json.loads((folder / "inputs.json").read_text())
    return [[payload["messages"] for payload in entry["payloads"]] for entry in said["data"]]


def _order(benchmark: Benchmark, target: Endpoint, dialect: Dialect, folder: Path) -> dict[str, Any]:
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
            "tokenizer": {"name": str(Path(target.tokenizer or "").absolute())},
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
    return {name: value for name, value in os.environ.items() if name not in offline} | own


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
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)


def _counts(record: dict[str, Any]) -> bool:
    return str(record["metadata"]["phase_name"]).startswith(_COUNTED)


def _request(record: dict[str, Any]) -> Request:
    about, found = record["metadata"], record["metrics"]
    users = int(about["phase_name"].removeprefix(_COUNTED))
    start = about["request_start_ns"] / 1e9

    def value(name: str) -> float:
        return float(found[name]["value"]) if name in found else 0.0

    if record.get("error"):
        said = record["error"]
        reason = f"{said.get('type')}: {said.get('message')}" if isinstance(said, dict) else str(said)
        return Request(users, start, about["request_end_ns"] / 1e9 - start, 0, 0, 0, 0, reason)
    return Request(
        users=users,
        start=start,
        latency=value("request_latency") / 1000,
        first=value("time_to_first_token") / 1000,
        each=value("inter_token_latency") / 1000,
        tokens=int(value("output_sequence_length")),
        input_tokens=int(value("input_sequence_length")),
        error=None,
    )


def _last_word(log: Path) -> str:
    """The last error in a log, or else its last line."""
    lines = [" ".join(line.strip(" │╭╰─╮╯").split()) for line in log.read_text(errors="replace").splitlines()]
    said = [line for line in lines if " ERROR " in line] or [line for line in lines if line]
    return redact(said[-1].rpartition(" ERROR ")[2][:300]) if said else "it said nothing"
