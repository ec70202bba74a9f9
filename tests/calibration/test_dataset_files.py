"""The real `datasets` and `huggingface_hub` clients against a stand-in of the hub on loopback."""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from running import ROOT, command

from proofcard import manifest
from proofcard.calibration.batches import read_index, read_samples

NAME = "calibration.datasets.text"
TOKEN = "hf_" + 20 * "x"


class Busy(deque[tuple[int, dict[str, str]]]):
    """So many answers of 429 to requests whose path has a word in it; everything else is answered."""

    def __init__(self, hub: Hub, word: str, times: int) -> None:
        super().__init__([(429, {"Retry-After": "1"})] * times)
        self._hub, self._word = hub, word

    def __bool__(self) -> bool:
        return len(self) > 0 and self._word in self._hub.requests[-1].path


Draw = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub) -> Hub:
    server.requests.clear()
    server.repositories.clear()
    server.refusals = deque()
    return server


@pytest.fixture(scope="module")
def surroundings(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that knows no other hub, and no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    home = str(tmp_path_factory.mktemp("hf"))
    return kept | {"HF_HOME": home, "HF_ENDPOINT": server.endpoint, "HF_UPDATE_DOWNLOAD_COUNTS": "0"}


@pytest.fixture(scope="module")
def worker(surroundings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).parent / "drawing.py"
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=surroundings | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def draw(worker: subprocess.Popen[str]) -> Draw:
    """Draws 24 samples of two splits of `some/texts` into a folder, and tells how it ended."""

    def drawing(folder: Path, *overrides: str, **environment: str) -> dict[str, Any]:
        said = [f"{NAME}.samples=24", f"{NAME}.splits=[stem,chat]", f"{NAME}.repository=some/texts"]
        said.append(f"work_dir={folder.parent}/runs")
        asked = {"folder": str(folder), "overrides": ["calibration=text", *said, *overrides]}
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(asked | {"environment": environment}) + "\n")
        worker.stdin.flush()
        answer: dict[str, Any] = json.loads(worker.stdout.readline())
        return answer

    return drawing


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A dataset of two splits, one of them in two files of Parquet, its README telling which is which."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "copy"
    (folder / "data").mkdir(parents=True)
    for name, first in (("stem-0", 0), ("stem-1", 40), ("chat-0", 80)):
        rows = [{"text": f"row {n} of the texts"} for n in range(first, first + 40)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{name}.parquet", row_group_size=15)
    splits = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in ("stem", "chat"))
    configs = f"configs:\n- config_name: default\n  data_files:\n{splits}"
    (folder / "README.md").write_text(f"---\n{configs}---\n{tmp_path.name}\n")  # a commit of every test's own
    return folder


@pytest.fixture
def commit(hub: Hub, copy: Path) -> str:
    return hub.add("some/texts", copy, "dataset")


@pytest.mark.parametrize("method", ["shuffle_buffer", "uniform"])
def test_the_hub_gives_the_samples_of_a_local_copy(
    draw: Draw, hub: Hub, commit: str, copy: Path, tmp_path: Path, method: str
) -> None:
    chosen = f"calibration.sampling.method={method}"
    remote = draw(tmp_path / "remote", f"{NAME}.revision={commit}", chosen)
    assert remote["stop"] is None
    asked = list(hub.requests)
    local = draw(tmp_path / "local", f"{NAME}.path={copy}", chosen)
    assert local["stop"] is None
    assert hub.requests == asked  # a local copy asks the hub for nothing
    assert read_index(tmp_path / "remote") == read_index(tmp_path / "local")
    tokens = [[ids.tolist() for ids in read_samples(tmp_path / place)] for place in ("remote", "local")]
    assert tokens[0] == tokens[1]
    said = manifest.read(tmp_path / "remote").inputs["datasets"]["text"]
    files = manifest.read(tmp_path / "local").inputs["datasets"]["text"]["files"]
    assert said["commit"] == commit
    assert said["files"] == {name: file for name, file in files.items() if name != "README.md"}


def test_a_small_file_is_known_by_git_s_digest(draw: Draw, hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("some/texts", {"train.jsonl": 30 * b'{"text": "words"}\n'}, "dataset")
    said = draw(tmp_path / "set", f"{NAME}.revision={commit}", f"{NAME}.splits=[train]")
    assert said["stop"] is None
    files = manifest.read(tmp_path / "set").inputs["datasets"]["text"]["files"]
    # as `git hash-object` says
    assert files["train.jsonl"] == {"size": 540, "git_sha1": "f72064ddb6a6b409d2284c55a58cddc81a1de233"}


def test_a_revision_that_is_no_commit_names_the_one_to_pin(
    draw: Draw, hub: Hub, commit: str, tmp_path: Path
) -> None:
    said = draw(tmp_path / "set")
    assert said["stop"] == (
        f"Usage: {NAME}.revision=null pins no commit of some/texts: set {NAME}.revision={commit}, "
        "which main is now"
    )
    assert not (tmp_path / "set").exists()


def test_the_command_ends_with_2_before_any_work(
    commit: str, surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    other = "calibration.datasets.magpie_pro_mt"
    overrides = ["tracking=off", f"{other}.path=null", f"{other}.repository=some/texts"]
    said = command("quantize", *overrides, f"{other}.revision=main", cwd=tmp_path)
    assert said.returncode == 2
    assert f"set {other}.revision={commit}, which main is now" in said.stderr


def test_a_gated_dataset_says_what_to_accept_where(draw: Draw, hub: Hub, copy: Path, tmp_path: Path) -> None:
    pinned = f"{NAME}.revision={hub.add('some/texts', copy, 'dataset', token=TOKEN, gated=True)}"
    accept = (
        f"Stop: some/texts is gated: accept its conditions at {hub.endpoint}/datasets/some/texts and set "
        f"HF_TOKEN to a token of the account that did, or set {NAME}.path to a copy of it"
    )
    for token in ("", "hf_" + 20 * "y"):
        assert draw(tmp_path / "set", pinned, HF_TOKEN=token)["stop"] == accept
    welcome = draw(tmp_path / "set", pinned, HF_TOKEN=TOKEN)
    assert welcome["stop"] is None
    assert TOKEN not in (tmp_path / "set" / "manifest.json").read_text() + str(welcome)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([f"{NAME}.repository=no/body"], f"the hub has no dataset no/body: check {NAME}.repository"),
        (
            [f"{NAME}.revision={'d' * 40}"],
            f"some/texts has no commit {'d' * 40}: check {NAME}.revision (main is at",
        ),
        ([f"{NAME}.splits=[math]"], f"{NAME} has no split math, it has stem, chat: correct {NAME}.splits"),
        ([f"{NAME}.subset=SFT"], f"{NAME} cannot be read: BuilderConfig 'SFT' not found"),
    ],
)
def test_what_is_not_there_is_named(
    draw: Draw, hub: Hub, commit: str, tmp_path: Path, overrides: list[str], sentence: str
) -> None:
    said = draw(tmp_path / "set", f"{NAME}.revision={commit}", *overrides)
    assert said["stop"].startswith(f"Stop: {sentence}")
    assert "\n" not in said["stop"]


@pytest.mark.parametrize("word", ["/revision/", "README", "chat-0.parquet"])
def test_a_busy_hub_is_asked_again(draw: Draw, hub: Hub, commit: str, tmp_path: Path, word: str) -> None:
    busy: Any = Busy(hub, word, times=2)
    hub.refusals = busy
    said = draw(tmp_path / "set", f"{NAME}.revision={commit}")
    assert said["stop"] is None
    assert len(busy) == 0
    if not word.endswith(".parquet"):  # there `datasets` itself waits
        assert said["said"].count("the hub is busy (429): asking again in 1 s") == 2
    assert manifest.read(tmp_path / "set").statistics["samples"] == 24


def test_a_hub_that_stays_busy_or_away_is_said_to_be(
    draw: Draw, hub: Hub, commit: str, tmp_path: Path
) -> None:
    hub.refuse(429, times=1000, Retry_After="0")
    said = draw(tmp_path / "set", f"{NAME}.revision={commit}")
    assert said["stop"].startswith("Stop: the hub still says that some/texts is asked for too often (429)")
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9") | {
        "NO_PROXY": "",
        "no_proxy": "",
    }
    said = draw(tmp_path / "set", f"{NAME}.revision={commit}", **nowhere)
    assert said["stop"].startswith("Stop: the connection to the hub failed for some/texts (")
    assert said["stop"].endswith("check the network; the same command goes on")
