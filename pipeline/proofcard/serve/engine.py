"""A running engine as a context: starts it, waits until it is ready, stops all of its processes."""

import json
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from rich.status import Status
from rich.text import Text

from proofcard import children
from proofcard.checkpoint import remote_code
from proofcard.checkpoint.configuration import quantization_of, read_settings
from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.shards import has_weights, loaded_instead
from proofcard.checkpoint.tensors import read_folder
from proofcard.config.serving import Serving
from proofcard.digest import readable_json
from proofcard.errors import Stop, Usage
from proofcard.files import check_handed
from proofcard.progress import console, shown
from proofcard.quantize import model_config
from proofcard.redact import STRUCK, is_secret, redact
from proofcard.screen import on_one_line, quoted
from proofcard.serve import address, bf16_copy, client, dequantized
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.launch import Launch, launch, served_name
from proofcard.serve.logs import last_line, last_lines, out_of_memory
from proofcard.serve.preflight import preflight
from proofcard.serve.process import Supervised

_LOOK_EVERY = 0.2  # seconds
_LINE_EVERY = 10.0  # seconds, without a terminal
_TRUST = "trust-remote-code"
_GRACE_S = {"sglang": 20.0, "vllm": 20.0, "transformers": 2.0}  # transformers would finish generating


@dataclass(frozen=True)
class Prepared:
    """An engine that is ready to be started: all checks have passed."""

    serving: Serving
    checkpoint: Path
    launch: Launch
    endpoint: Endpoint = field(repr=False)
    warnings: tuple[str, ...] = ()

    def command(self) -> str:
        """The command line, ready to paste into a shell, with secrets redacted."""
        switches = ("0", "1")  # as of HF_HUB_DISABLE_IMPLICIT_TOKEN
        said = {
            k: STRUCK if is_secret(k) and v not in switches else v
            for k, v in sorted(self.launch.environment.items())
        }
        checked_config = [f"{name}={shlex.quote(value)}" for name, value in said.items()]
        return redact(" ".join([*checked_config, shlex.join(self.launch.argv)]))


@contextmanager
def running(serving: Serving, checkpoint: Path, work_dir: Path) -> Iterator[Endpoint]:
    """Run the engine of a profile with `checkpoint`; its log is in `work_dir/serve`.

    Raises:
        Usage: when it cannot be started as requested; nothing was started.
        Stop: when it exits, runs out of memory, or is not ready in time.
    """
    with started(prepare(serving, checkpoint, work_dir)) as endpoint:
        yield endpoint


def prepare(serving: Serving, checkpoint: Path, work_dir: Path) -> Prepared:
    """Check everything that can be checked before a start. For transformers, dequantize the checkpoint.

    The engine gets a separate folder next to its log: the checkpoint, with pinned code only.

    Raises:
        Usage: when something is wrong with the request.
    """
    address.check_host(serving)
    key = address.read_key(serving.api_key_file)
    port = address.free_port(serving)
    config = read_config(checkpoint)
    found = remote_code.read(checkpoint)
    code = _own_code(found, serving)
    if bool(serving.flags.get(_TRUST)) != bool(code):
        serving = serving.model_copy(update={"flags": serving.flags | {_TRUST: bool(code)}})
    name = served_name(serving, checkpoint)
    serving = serving.model_copy(update={"served_model_name": name})
    warnings = preflight(serving, checkpoint, config, work_dir)
    weights, plain = checkpoint, None
    if serving.engine == "transformers":
        weights = dequantized.folder(checkpoint, config, work_dir)
        if weights == checkpoint and (other := loaded_instead(checkpoint)) is not None:
            raise Usage(
                f"{checkpoint} has {other} in addition to the files in its index, and transformers would "
                "load it instead: move it away"
            )
        checked: dict[str, Any] = json.loads(found.settings["config.json"])
        checked_config = model_config.in_pinned_spelling(checked, str(checkpoint / "config.json"))
        plain = readable_json(bf16_copy.plain(checked_config)).encode()
    else:
        dequantized.held_to_seal(checkpoint)
    log_folder = _log_folder(serving.name, work_dir)
    private = log_folder / "model" / checkpoint.resolve().name
    remote_code.for_engine(found, code, weights, private, plain)
    command = launch(serving, private, port)
    endpoint = Endpoint(
        url=address.url(serving, port),
        model=name,
        api_key=key,
        tokenizer=checkpoint if (checkpoint / "tokenizer_config.json").is_file() else None,
        engine=serving.engine,
        pid=0,
        log=log_folder / "engine.log",
    )
    return Prepared(serving, checkpoint, command, endpoint, tuple(warnings))


def _own_code(found: remote_code.Code, serving: Serving) -> dict[str, bytes]:
    """The checkpoint's code that the engine may run, all of it pinned; empty if it runs none.

    transformers runs whatever code a checkpoint refers to, SGLang and vLLM only with a flag.

    Raises:
        Usage: for a file that is not pinned.
    """
    may_run = serving.engine == "transformers" or bool(serving.flags.get(_TRUST))
    if not may_run or not found.of_anything():
        return {}
    return found.pinned(serving.remote_code or remote_code.known_pins(found), "serving.remote_code")


@contextmanager
def started(prepared: Prepared) -> Iterator[Endpoint]:
    """Start the prepared engine and wait until it answers. Raises as `running`."""
    log = prepared.endpoint.log
    (log.parent / "command.txt").write_text(prepared.command() + "\n", encoding="utf-8")
    environment = children.environment(prepared.launch.environment)
    with Supervised(prepared.launch.argv, environment, log, _GRACE_S[prepared.serving.engine]) as engine:
        endpoint = replace(prepared.endpoint, pid=engine.pid)
        endpoint = replace(endpoint, ready_s=_until_ready(prepared.serving, endpoint, engine))
        try:
            yield endpoint
        except Exception:
            if engine.ended():  # the cause of any other failure
                raise Stop(ended_badly(endpoint, engine.status())) from None
            raise
        if engine.ended():
            raise Stop(ended_badly(endpoint, engine.status()))


def stand_by(endpoint: Endpoint) -> None:
    """Return when the engine has exited; the context around it then reports how."""
    while psutil.pid_exists(endpoint.pid):
        time.sleep(_LOOK_EVERY)


def _until_ready(serving: Serving, endpoint: Endpoint, engine: Supervised) -> float:
    """Wait for the engine's first answer; returns the seconds that it took."""
    begun = said = time.monotonic()
    first = _FirstAnswer(endpoint, engine, serving.ready_timeout_s)
    first.start()
    with Status(Text(f"{serving.name} starts"), console=console) as status:
        while first.is_alive():
            first.join(_LOOK_EVERY)
            elapsed = time.monotonic() - begun
            if engine.ended():
                raise Stop(ended_badly(endpoint, engine.status()))
            if elapsed > serving.ready_timeout_s:
                raise Stop(_late(serving, endpoint, elapsed))
            latest = last_line(endpoint.log)[:100]
            now = on_one_line(f"{serving.name} starts: {elapsed:.0f} s{latest and f', {latest}'}")
            status.update(Text(now))
            if not console.is_terminal and time.monotonic() - said > _LINE_EVERY:
                said = time.monotonic()
                console.print(now)
    if first.failed is not None:
        time.sleep(_LOOK_EVERY)  # one that dies drops its connections first
        if engine.ended():
            raise Stop(ended_badly(endpoint, engine.status()))
        raise Stop(f"{serving.name} started, but cannot answer: {first.failed}" + _said(endpoint))
    if not first.answered:
        raise Stop(_late(serving, endpoint, time.monotonic() - begun))
    return time.monotonic() - begun


def _late(serving: Serving, endpoint: Endpoint, seconds: float) -> str:
    return (
        f"{serving.name} was not ready after {seconds:.0f} s and was stopped "
        f"(serving.ready_timeout_s={serving.ready_timeout_s:g})" + _said(endpoint)
    )


class _FirstAnswer(threading.Thread):
    """Sends requests until one is answered: an open port is not yet a loaded model, nor our engine.

    The engine is ready only when `answered`: whatever else ends the thread is in `failed`, or was too late.
    """

    def __init__(self, endpoint: Endpoint, engine: Supervised, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self.answered = False
        self.failed: str | None = None
        self._endpoint, self._engine = endpoint, engine
        self._end = time.monotonic() + timeout_s

    def run(self) -> None:
        """Wait for health, check the process and model, then request one token."""
        try:
            self.answered = self._healthy() and self._answers()
        except (client.NoAnswer, Stop) as error:
            self.failed = str(error)
        except Exception as error:
            self.failed = f"the first request failed with {type(error).__name__}: {quoted(str(error))}"

    def _healthy(self) -> bool:
        pause = _LOOK_EVERY
        while not client.healthy(self._endpoint.url):
            if time.monotonic() > self._end:
                return False
            time.sleep(pause)
            pause = min(1.1 * pause, 2.0)  # engines log each health check, and SGLang compiles for minutes
        return True

    def _answers(self) -> bool:
        """Raise Stop when another process or model answers, before the key is sent to it."""
        address.check_owner(self._endpoint.url, self._engine.family())
        name = self._endpoint.model
        names = client.models(self._endpoint.url, self._endpoint.api_key, self._left())
        if name not in names:
            raise Stop(f"it serves {quoted(', '.join(names))} instead of {quoted(name)}")
        question = [{"role": "user", "content": "Hello"}]
        client.ask(self._endpoint.url, name, self._endpoint.api_key, question, 1, self._left())
        return True

    def _left(self) -> float:
        return max(1.0, self._end - time.monotonic())


def read_config(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises Usage when it is missing or unreadable."""
    try:
        config = read_settings(checkpoint)
        check_handed(checkpoint)
        quantization_of(config, checkpoint)
        if has_weights(checkpoint):
            check_counts(config, checkpoint, read_folder(checkpoint).values())
    except FileNotFoundError:
        raise Usage(f"checkpoint={checkpoint} is not a checkpoint folder: it has no config.json") from None
    except Stop as error:
        raise Usage(str(error)) from None
    return config


def ended_badly(endpoint: Endpoint, status: int | None) -> str:
    """One sentence on how an engine ended, and the last lines of its log."""
    how = "ended"
    if status is not None:
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    memory = out_of_memory(endpoint.log, endpoint.engine, status)
    return f"{endpoint.engine} {how}" + (f"; {memory}" if memory else "") + _said(endpoint)


def _said(endpoint: Endpoint) -> str:
    lines = "".join(f"\n  {on_one_line(line)}" for line in last_lines(endpoint.log))
    return f"; its log, {shown(endpoint.log)}, ends:{lines or ' (it is empty)'}"


def _log_folder(name: str, work_dir: Path) -> Path:
    """A new folder for one start."""
    number = 1
    while True:
        folder = work_dir / "serve" / f"{name}-{number:03}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
