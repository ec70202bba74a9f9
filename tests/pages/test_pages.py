"""MLflow's pages in a browser, as `make ui` serves them: runs, a checkpoint, a comparison, a model, the card.

Screenshots go to the folder that PROOFCARD_SCREENSHOTS names. CI names one: there, no Chromium is a failure.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import forking
import psutil
import pytest
from forking import Forked
from pages import store
from running import start, surroundings
from tracking_server.processes import free_port

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TO_FILE = Path(__file__).with_name("to_file.py")
KEPT = os.environ.get("PROOFCARD_SCREENSHOTS")
RUNS = "?workflowType=machine_learning"
PICTURE = "document.querySelector(\"img[src^='blob:']\")"


class Site(NamedTuple):
    """The pages: their address, the link that was printed, the folder, and the checkpoints' keys."""

    address: str
    link: str
    folder: Path
    keys: dict[str, str]

    @property
    def experiment(self) -> str:
        """The address of the experiment's pages."""
        return self.link.partition("/runs?")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        said = "NO CHROMIUM: MLflow's pages and the card were not looked at; apt-get install chromium"
        if KEPT:
            pytest.fail(said)
        pytest.skip(said)
    with playwright.sync_playwright() as started:
        sandbox = [] if os.getuid() else ["--no-sandbox"]  # it refuses root otherwise
        program = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield program
        program.close()


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Iterator[Site]:
    """`make ui` over two checkpoints."""
    folder = tmp_path_factory.mktemp("pages")
    keys = store.made(folder, texts)
    port = free_port()
    words, environment = [str(TO_FILE), "--port", str(port)], dict(os.environ)
    server: Forked | subprocess.Popen[str]
    if forking.alike(environment):
        server = Forked(words, folder, environment | surroundings())
    else:
        server = start([sys.executable, *words], folder)
    try:
        yield Site(f"http://127.0.0.1:{port}", _link(server, folder / "ui.out"), folder, keys)
    finally:
        below = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
        for process in (server, *below):
            process.kill()
        server.communicate()


def _link(server: Forked | subprocess.Popen[str], said: Path) -> str:
    """The address that it prints."""
    while not (said.exists() and (found := re.search(r"the runs: (\S+)\n", said.read_text()))):
        assert server.poll() is None, server.communicate()[1]
        time.sleep(0.1)
    return found.group(1)


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """A visitor's browser."""
    made = browser.new_context(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tab(context: Any) -> Any:
    """One for all: a new one starts processes and compiles MLflow's programs again."""
    return context.new_page()


@pytest.fixture
def page(tab: Any) -> Any:
    """An empty page: nothing that an earlier test has opened is shown any more."""
    tab.goto("about:blank")
    return tab


def go(page: Any, address: str, *texts: str) -> None:
    """Open an address, as soon as there is somebody who answers, and wait for texts."""
    for left in reversed(range(200)):
        try:
            page.goto(address)
            break
        except playwright.Error:
            if not left:
                raise
            page.wait_for_timeout(300)
    see(page, *texts)


def see(page: Any, *texts: str) -> None:
    """Wait until each text is shown."""
    for text in texts:
        page.get_by_text(text).first.wait_for(state="visible")


def keep(page: Any, name: str) -> None:
    """A screenshot for whoever looks at CI."""
    if KEPT:
        Path(KEPT).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(KEPT) / f"{name}.png")


def test_the_bare_address_leads_to_the_runs_with_headline_numbers(site: Site, page: Any) -> None:
    go(page, site.address, f"local-{site.keys['with_kv'][:12]}", f"local-{site.keys['without_kv'][:12]}")
    assert page.url.startswith(site.link)
    see(page, "Headline numbers", "kl_w4a4_kv", "size_gb", "rtx6kpro (publish")
    assert page.get_by_role("heading", name="Runs").first.is_visible()
    keep(page, "runs")


def test_the_list_of_experiments_leads_to_the_runs_too(site: Site, page: Any) -> None:
    go(page, f"{site.address}/#/experiments")
    page.get_by_role("link", name="proofcard", exact=True).first.click()
    page.wait_for_url(f"{site.experiment}/runs{RUNS}**")


def test_a_checkpoint_s_run_explains_itself_and_leads_to_its_commands(site: Site, page: Any) -> None:
    key = site.keys["with_kv"]
    go(page, site.link, f"local-{key[:12]}")
    page.get_by_role("link", name=f"local-{key[:12]}").first.click()
    see(page, "a checkpoint of your own", "weights_proved", "Calibration")
    page.get_by_text("Show more").first.click()
    see(page, "Verification: verified", "Headline numbers", "proofcard quantize recipe=local", "Verify it")
    keep(page, "checkpoint")
    link = page.get_by_role("link", name=f"verify local-{key[:8]}").first
    go(page, f"{site.address}/{link.get_attribute('href')}", f"verify local-{key[:8]}", "Parent run")


def test_two_checkpoints_are_compared_by_what_was_chosen(site: Site, page: Any) -> None:
    go(page, f"{site.experiment}/runs{RUNS}", f"local-{site.keys['with_kv'][:12]}")
    for key in site.keys.values():
        row = page.locator("[role=row]", has_text=f"local-{key[:12]}").first
        row.locator("input[type=checkbox]").first.check()
    page.get_by_role("button", name="Compare").first.click()
    see(page, "Comparing 2 Runs", "kv_cache.format", "fp8", "none")
    assert page.get_by_text("AI Gateway").count() == 0  # still the pages for runs
    keep(page, "comparison")


def test_a_figure_is_shown_large_enough_to_read(site: Site, page: Any) -> None:
    run = _newest(site, "quantize")
    go(page, f"{site.experiment}/runs/{run}/artifacts/plots/convergence.png{RUNS}", "plots/convergence.png")
    page.wait_for_function(f"{PICTURE}?.naturalWidth > 0")
    assert (
        page.evaluate(f"{PICTURE}.naturalWidth") < 1500
    )  # the preview is 880 wide: text of 10 points stays legible
    keep(page, "figure")


def test_a_table_is_shown_as_one(site: Site, page: Any) -> None:
    run = _newest(site, "evaluate")
    go(
        page,
        f"{site.experiment}/runs/{run}/artifacts/evaluation/fidelity.json{RUNS}",
        "View as table",
        "PPL ratio",
    )
    keep(page, "table")


def test_the_model_has_its_metrics_and_its_verified_version(site: Site, page: Any) -> None:
    name = f"local-{site.keys['with_kv'][:12]}"
    go(page, f"{site.experiment}/models{RUNS}", name)
    page.get_by_role("link", name=name).first.click()
    see(page, "About this logged model", "weights_proved", "held_out_texts", "kv_cache.format")
    keep(page, "model")
    go(page, f"{site.address}/#/models/local{RUNS}", "Version 1", "Version 2", "verified")
    keep(page, "versions")


def test_the_card_opens_by_itself_and_asks_nobody(site: Site, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    go(page, (site.folder / "runs/with_kv/README.html").as_uri(), "At a glance", "Verify it yourself")
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    keep(page, "card")


def _newest(site: Site, command: str) -> str:
    """The id of a command's run."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{site.folder}/{store.STORE}")
    place = client.get_experiment_by_name("proofcard").experiment_id
    [run, *_] = client.search_runs([place], f"tags.command = '{command}'")
    return str(run.info.run_id)
