"""A serving session: an engine that is started for a command, described, checked, and its log tracked.

`serve` opens one, and so does whatever measures an engine that it starts itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

from proofcard import portable
from proofcard.config.serving import Truth
from proofcard.documents.serving import KnownAnswers, ServingSession
from proofcard.progress import console
from proofcard.reports import Section
from proofcard.serve import effective, truth
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, started
from proofcard.serve.logs import whole
from proofcard.tracking import Tracker, subject_of
from proofcard.tracking_headlines import of_known_answers

NAME = "session.json"


@contextmanager
def opened(prepared: Prepared, tracker: Tracker, log: str = "engine") -> Iterator[Endpoint]:
    """The prepared engine, once it answers; its log is tracked at the end as `serve/<log>.log`.

    Raises:
        Stop: when it exits, runs out of memory, or is not ready in time.
    """
    try:
        with started(prepared) as endpoint:
            tracker.metrics({"ready_s": endpoint.ready_s})
            yield endpoint
    finally:
        path = prepared.endpoint.log
        if path.exists():
            tracker.text(whole(path), f"serve/{log}.log")


def describe(tracker: Tracker, prepared: Prepared) -> None:
    """Track what is started with which settings, and print the command line."""
    command = prepared.command()
    console.print(f"starts: {command}", soft_wrap=True)
    tracker.params({"serving": prepared.serving.model_dump(mode="json", exclude={"api_key_file"})})
    tags = {"engine": prepared.serving.engine, "checkpoint": str(prepared.checkpoint)}
    if (version := _version(prepared)) is not None:
        tags["engine.version"] = version
    tracker.tags(tags)
    tracker.text(command + "\n", "serve/command.txt")
    if prepared.warnings:
        tracker.text("".join(f"{sentence}\n" for sentence in prepared.warnings), "serve/warnings.txt")


def introduced(prepared: Prepared, endpoint: Endpoint, questions: Truth, tracker: Tracker) -> ServingSession:
    """The effective settings and the known-answer check. Every setting that differs gives a warning."""
    settings = effective.settings(prepared.serving, endpoint, prepared.checkpoint)
    if settings:
        effective.track(settings, tracker)
    subject = subject_of(prepared.checkpoint)
    session = ServingSession(
        checkpoint=prepared.checkpoint.absolute().name,
        key=subject.key if subject is not None else None,
        profile=prepared.serving.model_dump(mode="json", exclude={"api_key_file"}),
        engine=prepared.serving.engine,
        engine_version=_version(prepared),
        command=prepared.command(),
        warnings=list(prepared.warnings),
        url=endpoint.url,
        model=endpoint.model,
        ready_s=endpoint.ready_s,
        settings=settings,
        known_answers=examined(endpoint, questions, tracker),
    )
    return portable.document(session, _names(prepared))


def _names(prepared: Prepared) -> dict[Path, str]:
    """What a session calls the folders of its command: it is published with the model card."""
    start = prepared.endpoint.log.parent
    private = start / "model" / prepared.checkpoint.resolve().name
    folders = dict.fromkeys((private, prepared.checkpoint, prepared.checkpoint.resolve()), "DIR")
    return {Path(prepared.launch.argv[0]): "python", start: "START"} | folders


def examined(endpoint: Endpoint, questions: Truth, tracker: Tracker) -> KnownAnswers:
    """Run the known-answer check and track its result."""
    known = truth.examine(endpoint, questions)
    tracker.headlines(of_known_answers(known))
    tracker.table(
        [
            {
                "question": each.name,
                "prompt": each.prompt,
                "answer": each.answer,
                "right": each.right,
                "why": each.why,
            }
            for each in known.verdicts
        ],
        "serve/known_answers.json",
    )
    tracker.tags({"truth": f"{known.name}: {'sound' if known.sound else 'not sound'}"})
    return known


def sections(session: ServingSession) -> list[Section]:
    """The effective settings and known answers, as tables."""
    known = truth.section(session.known_answers)
    return [effective.section(session.settings), known] if session.settings else [known]


def _version(prepared: Prepared) -> str | None:
    """The engine's version in its environment."""
    lib = Path(prepared.launch.argv[0]).parent.parent / "lib"
    folders = [str(path) for path in lib.glob("python3*/site-packages")]
    return next((d.version for d in distributions(name=prepared.serving.engine, path=folders)), None)
