"""`make ui`: MLflow's pages of the runs made here, on loopback, beside what others have published.

Prints the address of the table of runs, with the headline numbers as columns, and opens it in a browser.
"""

import argparse
import os
import sys
import threading
import time
import urllib.request
import webbrowser
from pathlib import Path

from import_reference import imported

from proofcard import tracking_app
from proofcard.config.schema import Tracking
from proofcard.tracking_links import LOCAL, runs_page
from proofcard.tracking_store import connected

STORE = Tracking(uri="sqlite:///runs/mlflow.db", experiment="proofcard")
WORK_DIR = Path("runs")


def main() -> None:
    """Import what was published, say where the runs are, and serve until Ctrl-C."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--port", type=int, default=5000)
    address = f"http://127.0.0.1:{words.parse_args().port}"
    made = imported(STORE, WORK_DIR)
    with connected(STORE, WORK_DIR) as (mlflow, _):
        page = runs_page(STORE, mlflow.get_experiment_by_name(STORE.experiment).experiment_id)
    page = page.replace(LOCAL, address)
    os.environ[tracking_app.LANDING] = page.removeprefix(f"{address}/")
    print(
        f"published numbers beside your own: {made} runs imported"
        if made
        else "published numbers: up to date"
    )
    print(f"\n  the runs: {page}\n", flush=True)
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        threading.Thread(target=_open, args=(address, page), daemon=True).start()
    serve(address)


def serve(address: str) -> None:
    """MLflow's own server, with what it says about itself left out: its address leads to another page."""
    from mlflow.cli import cli

    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # three more processes, for traces and their judges
    }  # fmt: skip
    host, port = address.removeprefix("http://").split(":")
    cli([
        "server", "--host", host, "--port", port, "--workers", "1", "--backend-store-uri", str(STORE.uri),
        "--app-name", "proofcard", "--uvicorn-opts", "--log-level warning",
    ])  # fmt: skip


def _open(address: str, page: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1)
        except OSError:
            time.sleep(0.5)
        else:
            webbrowser.open(page)
            return


if __name__ == "__main__":
    main()
