"""Where a run's page is: an address on a server, or the command that serves an SQLite store and one."""

import shlex

from proofcard import tracking_view
from proofcard.config.schema import Tracking
from proofcard.redact import redact

WORKFLOW = "machine_learning"
"""What MLflow calls its pages for runs; the others are for chat programs."""
_RUNS = f"workflowType={WORKFLOW}"
LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` and `make ui` answer."""


def run_page(tracking: Tracking, experiment: str, run: str) -> str:
    """The address of a run's page."""
    return f"{_address(tracking)}/{run_path(experiment, run)}"


def run_path(experiment: str, run: str) -> str:
    """The same as a link from another page."""
    return f"#/experiments/{experiment}/runs/{run}?{_RUNS}"


def runs_page(tracking: Tracking, experiment: str) -> str:
    """The address of the table of runs, with the headline numbers as columns."""
    return (
        f"{_address(tracking)}/#/experiments/{experiment}/runs?{_RUNS}&viewStateShareKey={tracking_view.KEY}"
    )


def run_link(tracking: Tracking, experiment: str, run: str) -> str:
    """What to do to see a run: an address, with the command that makes it answer if it needs one."""
    page = run_page(tracking, experiment, run)
    return page if is_server(tracking) else f"{opening(tracking)}, then open {page}"


def opening(tracking: Tracking) -> str:
    """The command that serves the pages of an SQLite store, for runs (`tracking_app`)."""
    return f"mlflow ui --app-name proofcard --backend-store-uri {shlex.quote(redact(str(tracking.uri)))}"


def is_server(tracking: Tracking) -> bool:
    """Whether the store is a server, which serves its own pages."""
    return str(tracking.uri).startswith(("http://", "https://"))


def _address(tracking: Tracking) -> str:
    return redact(str(tracking.uri)).rstrip("/") if is_server(tracking) else LOCAL
