"""The hub's client: what is tried again, and what is given up at once."""

import time

import pytest

from proofcard import hub
from proofcard.errors import Stop

WANTED = hub.Wanted("model", "some/model", "0" * 40, "checkpoint", address=True)


def refused() -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def test_a_hub_that_nobody_reaches_is_said_to_be_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(hub, "_heard", False)
    began = time.monotonic()
    with pytest.raises(Stop) as stop, hub.errors_explained(WANTED):
        hub.with_retries(refused)
    assert str(stop.value) == (
        "the hub at http://127.0.0.1:1 cannot be reached (connection refused): check the network and "
        "HF_ENDPOINT, or give checkpoint=DIR, a copy of it"
    )
    assert time.monotonic() - began < hub.FIRST_WAIT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("heard", ["an answer", "a byte"])
def test_one_that_has_answered_before_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], heard: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(hub, "_heard", False)
    monkeypatch.setattr(hub, "FIRST_WAIT", 0.001)
    received = iter(range(100))
    if heard == "an answer":
        hub.with_retries(lambda: None)
    with pytest.raises(ConnectionRefusedError):
        hub.with_retries(refused, (lambda: 0) if heard == "an answer" else lambda: min(next(received), 1))
    assert capsys.readouterr().err.count("the connection to the hub failed: retrying in ") == hub._RETRIES
