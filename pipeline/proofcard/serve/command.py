"""`serve`: start an engine, ask it what it must know, and keep it until Ctrl-C."""

import json
import shlex
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from proofcard import manifest, tracking
from proofcard.config import ServeConfig, compose
from proofcard.digest import readable_json
from proofcard.progress import console, shown
from proofcard.redact import redact
from proofcard.reports import show
from proofcard.screen import Screen
from proofcard.serve import effective, truth
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, prepare, stand_by, started
from proofcard.serve.logs import whole
from proofcard.tracking import Tracker


def run(overrides: list[str]) -> int:
    """Compose, start, ask, wait until somebody or something ends it.

    Raises:
        Usage: when it cannot be started as asked; nothing was started.
        Stop: when the engine fails, or does not know what it must.
        KeyboardInterrupt: when it was told to end; no process is left then.
    """
    config = compose(ServeConfig, "serve", overrides)
    truth.prepare(config.truth)
    prepared = prepare(config.serving, config.checkpoint, config.work_dir)
    told: KeyboardInterrupt | None = None
    with tracking.opened(config.tracking, f"serve {config.serving.name}", config.work_dir) as tracker:
        describe(tracker, prepared)
        try:
            with started(prepared) as endpoint:
                try:
                    _serve(config, endpoint, tracker)
                except KeyboardInterrupt as stop:  # the way a server ends: not a run that was killed
                    told = stop
        finally:
            log = prepared.endpoint.log
            if log.exists():
                tracker.text(whole(log), "serve/engine.log")
    if told is not None:
        told.add_note("the engine was stopped, no process of it is left")
        raise told
    return 0


def describe(tracker: Tracker, prepared: Prepared) -> None:
    """What is started from what, into the tracked run, and the command line onto the screen."""
    command = prepared.command()
    console.print(f"starts: {command}", soft_wrap=True)
    tracker.params({"serving": prepared.serving.model_dump(mode="json", exclude={"api_key_file"})})
    tracker.tags(_origin(prepared))
    tracker.text(command + "\n", "serve/command.txt")
    if prepared.warnings:
        tracker.text("".join(f"{sentence}\n" for sentence in prepared.warnings), "serve/warnings.txt")


def ask(config_truth: Any, endpoint: Endpoint, tracker: Tracker) -> truth.Verdicts:
    """The known questions, their verdicts on the screen and into the tracked run."""
    verdicts = truth.examine(endpoint, config_truth)
    show([verdicts.section()], Screen())
    tracker.metrics({"truth/passed": float(verdicts.passed), "truth/asked": float(len(verdicts.given))})
    tracker.tags({"truth": f"{verdicts.name}: {'sound' if verdicts.sound else 'not sound'}"})
    tracker.text(readable_json(verdicts.described()), "serve/truth.json")
    return verdicts


def _serve(config: ServeConfig, endpoint: Endpoint, tracker: Tracker) -> None:
    tracker.metrics({"serve/ready_seconds": endpoint.ready_s})
    if found := effective.settings(config.serving, endpoint, config.checkpoint):
        show([effective.tell(found, tracker)], Screen())
    verdicts = ask(config.truth, endpoint, tracker)
    if config.truth.required:
        verdicts.require()
    if not config.stay:
        return
    question = json.dumps({"model": endpoint.model, "messages": [{"role": "user", "content": "Hello"}]})
    key = " -H 'Authorization: Bearer …'" if endpoint.api_key else ""
    lines = (
        ("serving", f"{endpoint.model} ({config.serving.name}), ready after {endpoint.ready_s:.1f} s"),
        ("address", endpoint.url),
        ("log", shown(endpoint.log)),
        ("try it", f"curl {endpoint.url}/chat/completions{key} --json {shlex.quote(question)}"),
        ("stop it", "Ctrl-C"),
    )
    out = Screen()
    for name, value in lines:
        out.print(f"{name:<12} {redact(value)}", soft_wrap=True)
    stand_by(endpoint)


def _origin(prepared: Prepared) -> dict[str, str]:
    """Tags: the checkpoint's key where it is sealed, the engine and its version."""
    tags = {"engine": prepared.serving.engine, "checkpoint": str(prepared.checkpoint)}
    if (prepared.checkpoint / manifest.NAME).exists():
        tags["key"] = manifest.read(prepared.checkpoint).key
    if (version := _version(prepared)) is not None:
        tags["engine.version"] = version
    return tags


def _version(prepared: Prepared) -> str | None:
    """The engine's version as its environment says it, found beside its program."""
    lib = Path(prepared.launch.argv[0]).parent.parent / "lib"
    folders = [str(path) for path in lib.glob("python3*/site-packages")]
    return next((d.version for d in distributions(name=prepared.serving.engine, path=folders)), None)
