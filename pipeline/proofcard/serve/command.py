"""`serve`: start an engine, ask it what it must know, and keep it until Ctrl-C."""

import json
import shlex

from proofcard import outcome, tracking
from proofcard.config import ServeConfig, compose
from proofcard.documents.serving import ServingSession
from proofcard.progress import shown
from proofcard.redact import redact
from proofcard.reports import show
from proofcard.screen import Screen
from proofcard.serve import session, truth, verified
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, prepare, stand_by
from proofcard.tracking import Tracker


def run(overrides: list[str]) -> int:
    """Compose, start, ask, wait until somebody or something ends it.

    Raises:
        Usage: when it cannot be started as asked, or does not verify; nothing was started.
        Stop: when the engine fails, or does not know what it must.
        KeyboardInterrupt: when it was told to end; no process is left then.
    """
    config = compose(ServeConfig, "serve", overrides)
    truth.prepare(config.truth)
    prepared = prepare(config.serving, config.checkpoint, config.work_dir)
    if config.verify == "on":
        verified.require(config.checkpoint)
    told: KeyboardInterrupt | None = None
    subject, name = tracking.subject_of(prepared.checkpoint), f"serve {config.serving.name}"
    with tracking.opened(config.tracking, "serve", config.work_dir, subject=subject, name=name) as tracker:
        session.describe(tracker, prepared)
        with session.opened(prepared, tracker) as endpoint:
            try:
                _serve(config, prepared, endpoint, tracker)
            except KeyboardInterrupt as stop:  # the way a server ends: not a run that was killed
                told = stop
    if told is not None:
        told.add_note("the engine was stopped, no process of it is left")
        raise told
    return 0


def _serve(config: ServeConfig, prepared: Prepared, endpoint: Endpoint, tracker: Tracker) -> None:
    found = session.introduced(prepared, endpoint, config.truth, tracker)

    def tables(out: Screen) -> None:
        show(session.sections(found), out)
        if config.stay and (found.known_answers.sound or not config.truth.required):
            _address(config, found, endpoint, out)

    outcome.deliver(found, endpoint.log.with_name(session.NAME), tables, tracker, "serve")
    if config.truth.required:
        truth.require(found.known_answers)
    if config.stay:
        stand_by(endpoint)


def _address(config: ServeConfig, found: ServingSession, endpoint: Endpoint, out: Screen) -> None:
    """Where the engine answers, and how to try it."""
    question = json.dumps({"model": found.model, "messages": [{"role": "user", "content": "Hello"}]})
    key = " -H 'Authorization: Bearer …'" if endpoint.api_key else ""
    lines = (
        ("serving", f"{found.model} ({config.serving.name}), ready after {found.ready_s:.1f} s"),
        ("address", found.url),
        ("log", shown(endpoint.log)),
        ("try it", f"curl {found.url}/chat/completions{key} --json {shlex.quote(question)}"),
        ("stop it", "Ctrl-C"),
    )
    for label, value in lines:
        out.print(f"{label:<12} {redact(value)}", soft_wrap=True)
