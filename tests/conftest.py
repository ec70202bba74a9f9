"""Checkpoints made by the real command, once per session."""

import fcntl
import gc
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import forking
import hung
import pytest
from hypothesis import HealthCheck, settings
from running import WORDS, contents, quantize, tiny, tiny_recipe
from several import SMALL
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from proofcard import garbage

IN_THIS_PROCESS = ("verify/test_calibration_level.py",)
"""Files that activate a toolchain in the process of the tests: before any other imports ModelOpt there."""
OF_A_HUB = ("checkpoint/test_repository.py", "fetch/test_command.py")
LONGEST = (
    *IN_THIS_PROCESS,
    "quantize/test_launched.py", "walkthroughs/test_walkthroughs.py", "quantize/test_ranks.py",
    "quantize/test_interruption.py", "nix/test_demo.py", "checkpoint/test_repository.py",
    "fetch/test_command.py", "tasks/test_command.py", "quantize/test_resume.py", "quantize/test_engines.py",
    "pages/test_pages.py", "quantize/test_memory.py", "serve/test_served.py",
    "reproduce/test_command.py", "run/test_command.py", "benchmark/test_command.py",
    "publish/test_command.py", "toolchain/test_behaviour.py", "verify/test_campaign.py",
    "plan/test_command.py", "config/test_compose.py", "quantize/test_demo.py",
    "tracking_server/test_server.py", "test_triton_kernels.py", "verify/test_from_the_hub.py",
    "verify/test_hostile.py", "sandbox/test_escapes.py", "test_wheel.py", "test_command.py",
)  # fmt: skip

# A busy machine is slow now and then, which says nothing about what is tested.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    forking.begin()
    if config.option.tx and forking.alike(dict(os.environ)):
        config.option.tx = [f"popen//python={forking.worker(config.args)}"] * len(config.option.tx)


def pytest_unconfigure() -> None:
    forking.end()


def pytest_sessionstart() -> None:
    """What is imported while tests are collected stays: no search for garbage in it, now or later."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    garbage.look_seldom()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: who starts one last would keep the others waiting."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


class _ByFile(LoadFileScheduling):
    """A file is one worker's, and so are those of a hub, for which forking.py has a server."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "a hub" if file.endswith(OF_A_HUB) else file


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _ByFile(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A program that a failed test leaves running is ended, and its stacks are part of the report."""
    report = yield
    if report.failed and (told := hung.end()):
        report.sections.append(("Programs that were still running", told))
    hung.forget()
    return report


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a command run in this process sets, PYTHONSAFEPATH above all, must not reach the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy, this worker's own, of the folder that the first worker to ask for it has made."""
    base = folders.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"{name}-once"
    with Path(f"{made}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            new = made.with_suffix(".new")
            make(new)
            new.rename(made)
    return shutil.copytree(made, folders.mktemp(name), dirs_exist_ok=True)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint."""
    return once(tmp_path_factory, "demo", quantize) / "checkpoint"


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one process makes of the demo with fewer samples."""
    return contents(once(tmp_path_factory, "alone", lambda new: quantize(new, *SMALL)) / "checkpoint")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain texts in the vocabulary of the tiny models."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [" ".join(f"w{(7 * n + 13 * k * k) % WORDS}" for k in range(5 + n % 30)) for n in range(24)]
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    """A working folder with a tiny source, its checkpoint and its sample set, some samples of it cut off."""
    cwd = tmp_path_factory.mktemp("tiny")
    source = tiny(cwd / "source", "llama")
    words = [*tiny_recipe(source, texts), "quantization=nvfp4_mlp_only", "calibration.sequence_length=16"]
    quantize(cwd, *words, "hardware=one_thread")
    return cwd
