"""Reaching the server that a command asks: one that runs already, or one that is started for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proofcard import tracking
from proofcard.config.asking import Target
from proofcard.config.serving import Serving
from proofcard.documents.tasks import Server
from proofcard.errors import Usage
from proofcard.screen import quoted
from proofcard.serve import session
from proofcard.serve.address import read_key
from proofcard.serve.client import NoAnswer, check_address, first_model, no_model
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.engine import Prepared, prepare
from proofcard.tracking import Subject, Tracker


@dataclass(frozen=True)
class Reachable:
    """A server that can be asked, or started: nothing is wrong with what was asked for.

    `label` says in words what it is, `subject` is the checkpoint where it is a sealed one.
    """

    label: str
    subject: Subject | None
    endpoint: Endpoint = field(repr=False)
    prepared: Prepared | None = field(default=None, repr=False)

    @property
    def key(self) -> str | None:
        """The key of a sealed checkpoint."""
        return self.subject.key if self.subject is not None else None

    def described(self, serving: Serving | None) -> Server:
        """The server in a document; `serving` is the profile of what is started here."""
        profile = serving.identity() if serving is not None and self.prepared is not None else None
        return Server(label=self.label, key=self.key, model=self.endpoint.model, serving=profile)


def check(target: Target, serving: Serving | None, work_dir: Path, setting: str = "") -> Reachable:
    """What can be known before anything is asked; `setting` is the key that holds the target, with a dot.

    Raises:
        Usage: when a server does not answer, or a checkpoint cannot be served as configured.
    """
    if target.endpoint is not None:
        return _running(target, target.endpoint.rstrip("/"), setting)
    assert target.checkpoint is not None and serving is not None
    prepared = prepare(serving, target.checkpoint, work_dir)
    return Reachable(
        label=f"{target.checkpoint.absolute().name} by {serving.name}",
        subject=tracking.subject_of(target.checkpoint),
        endpoint=prepared.endpoint,
        prepared=prepared,
    )


def _running(target: Target, url: str, setting: str) -> Reachable:
    if not url.endswith("/v1"):
        raise Usage(f"{setting}endpoint={url} should end in /v1, as in http://127.0.0.1:8000/v1")
    try:
        check_address(url)
    except ValueError as error:
        raise Usage(f"{setting}endpoint={url} cannot be an address: {error}") from None
    key = read_key(target.api_key_file, f"{setting}api_key_file")
    try:
        model = target.model or first_model(url, key)
    except NoAnswer as error:
        raise Usage(no_model(url, error, setting)) from None
    found = Endpoint(url, model, key, None, "", 0, Path(os.devnull))
    return Reachable(f"{quoted(model, 80)} by a server that was running", None, found)


@contextmanager
def reached(server: Reachable, tracker: Tracker, name: str = "engine") -> Iterator[Endpoint]:
    """The server, answering; one that is started here is gone afterwards, its log tracked as `name`.

    Raises:
        Stop: when an engine cannot be started, or ends by itself.
    """
    if server.prepared is None:
        yield server.endpoint
        return
    session.describe(tracker, server.prepared)
    with session.opened(server.prepared, tracker, name) as endpoint:
        yield endpoint
