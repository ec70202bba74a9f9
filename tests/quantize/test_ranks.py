"""Several ranks give the bytes of one; a lost one ends the work, not what is done."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import forking
import pytest
import several
from forking import Forked
from quantize.tiny_moe import TinyMoe, tiny_moe
from running import BIN, ROOT, contents, run, surroundings
from several import small, together, torchrun
from slurm import free_port
from waiting import until

from proofcard import joining

Started = Callable[[list[str], Path], tuple[int, str, str]]
"""Runs the words in a folder to their end, as several ranks: exit status, standard output and error."""


def by_torchrun(words: list[str], cwd: Path) -> tuple[int, str, str]:
    return run([*torchrun(2), *words], cwd, forking.by_name(surroundings()))


def forked_torchrun(words: list[str], cwd: Path) -> Forked:
    """With two ranks; at a given port: what finds one looks through all that is imported."""
    mine = [str(BIN / "torchrun"), "--nnodes=1", "--node-rank=0", "--nproc-per-node=2", "--no-python"]
    mine += ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    return Forked([*mine, *words], cwd, os.environ | forking.by_name(surroundings()))


def forked(count: int) -> Started:
    return lambda words, cwd: together(several.ranks(count * [words], cwd))


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> TinyMoe:
    return tiny_moe(tmp_path_factory.mktemp("moe"), texts)


@pytest.mark.parametrize(
    ("started", "again"),
    [(forked(1), forked(2)), (by_torchrun, forked(1)), (forked(4), forked(1))],
    ids=["1", "2 by torchrun", "4"],
)
def test_any_number_of_ranks_gives_the_same_bytes(
    moe: TinyMoe, tmp_path: Path, started: Started, again: Started
) -> None:
    status, said, errors = started(moe.words(), tmp_path)
    assert status == 0, errors
    assert contents(tmp_path / "checkpoint") == moe.files  # the manifest too: it says nothing of ranks
    assert said.count("checkpoint (made)") == 1
    assert errors.count("layer 3/3") == 1  # only the leading rank speaks
    status, said, _ = again(moe.words(), tmp_path)
    assert (status, said.count("checkpoint (reused)")) == (0, 1)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("kv_cache=fp8_affine", "quantize: kv_cache=fp8_affine averages over batches in their order"),
        ("engine=modelopt", "quantize: engine=modelopt runs as one process"),
        ("seed=x", "quantize: seed='x': it must be a valid integer"),
        ("model.path=/nowhere", "quantize: /nowhere is not a checkpoint folder"),
    ],
)
def test_what_several_ranks_cannot_do_is_refused_before_any_work(
    tmp_path: Path, override: str, sentence: str
) -> None:
    """The leading rank says so; the other one leaves it time to, and ends without a word."""
    leading, other = several.ranks(2 * [small(override)], tmp_path)
    said, errors = leading.communicate(timeout=120)
    assert leading.returncode == 2
    assert errors.count(sentence) == 1
    assert said == ""
    other.send_signal(signal.SIGTERM)  # as torchrun then does
    assert sentence not in "".join(other.communicate(timeout=60))
    assert other.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert not list(tmp_path.glob("*/samples"))
    assert not list(tmp_path.glob(".checkpoint*"))


def test_torchrun_shows_a_refusal_once(tmp_path: Path) -> None:
    status, said, errors = together([forked_torchrun(small("engine=modelopt"), tmp_path)])
    assert status == 1  # torchrun's own; the rank's is in its table
    assert "exitcode  : 2" in errors
    assert errors.count("quantize: engine=modelopt runs as one process") == 1
    assert said == ""


def test_what_is_wrong_for_one_rank_alone_is_said_too(tmp_path: Path) -> None:
    """The second machine does not see the model."""
    (tmp_path / "model").symlink_to(ROOT / "demo" / "model")
    words = [small(f"model.path={tmp_path}/model"), small("model.path=/nowhere")]
    both = several.ranks(words, tmp_path)
    ended = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    for errors in ended:
        assert errors.rstrip().splitlines()[-1].startswith("quantize: /nowhere is not a checkpoint folder")


def cut_short(root: Path) -> Iterator[Path]:
    """Folders to begin work in, until it was ended before its checkpoint was there: it may be the quicker."""
    for attempt in range(5):
        cwd = root / str(attempt)
        cwd.mkdir()
        yield cwd
        if not (cwd / "checkpoint").exists():
            return


def wait_for_a_layer(process: Forked, cwd: Path) -> None:
    deadline = time.monotonic() + 300
    while not (cwd / ".checkpoint.state" / "layer-00000.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_rank_ends_the_other_and_three_go_on_to_the_same_bytes(moe: TinyMoe, tmp_path: Path) -> None:
    """Nobody watches over these two, as under srun: the one that is left notices by itself."""
    for cwd in cut_short(tmp_path):
        left, lost = several.ranks(2 * [moe.words()], cwd)
        wait_for_a_layer(left, cwd)
        lost.kill()
        _, errors = left.communicate(timeout=60)
        lost.communicate()
    assert left.returncode == 1
    assert "quantize: rank 0 of 2 lost another rank" in errors
    assert "the same command resumes after the last complete layer" in errors
    assert not (cwd / "checkpoint").exists()
    status, _, errors = together(several.ranks(3 * [moe.words()], cwd))
    assert status == 0, errors
    assert "resuming after layer" in errors
    assert contents(cwd / "checkpoint") == moe.files


def test_torchrun_ends_all_when_the_leading_rank_is_killed_and_one_process_goes_on(
    moe: TinyMoe, tmp_path: Path
) -> None:
    for cwd in cut_short(tmp_path):
        process = forked_torchrun(moe.words(), cwd)
        wait_for_a_layer(process, cwd)
        if (leading := worker(process.pid, rank=0)) is not None:
            os.kill(leading, signal.SIGKILL)
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "SIGKILL" in errors
    assert not (cwd / "checkpoint").exists()
    status, _, errors = together(several.ranks([moe.words()], cwd))
    assert status == 0, errors
    assert "resuming after layer" in errors
    assert contents(cwd / "checkpoint") == moe.files


def worker(parent: int, rank: int) -> int | None:
    """The process of a rank below torchrun, if it still runs."""
    mark = f"\0RANK={rank}\0".encode()
    with suppress(FileNotFoundError, ProcessLookupError):
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                return int(pid)
    return None


def test_a_rank_that_falls_silent_is_missed(tmp_path: Path) -> None:
    """Its machine is gone: no connection breaks, and no signal comes.

    The one that waits is patient until both have met, the other one always: here a busy machine may be slow.
    """
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, signal, proofcard.joining as joining; joining._PULSE, joining._MISSED = 0.2, 300\n"
        "with joining.joined('cpu') as team:\n"
        "    team.wait()\n"
        "    if team.leads: joining._MISSED = 10; team.wait()\n"
        "    else: pathlib.Path('together').touch(); signal.pause()\n"
    )
    waiting, silent = several.ranks(2 * [[str(program)]], tmp_path)
    until((tmp_path / "together").exists)
    silent.send_signal(signal.SIGSTOP)
    _, errors = waiting.communicate(timeout=60)
    silent.kill()
    silent.communicate()
    assert waiting.returncode == 1
    assert errors.startswith(
        "rank 0 of 2 has had no heartbeat from rank 1 for 2 s: its machine or the network is lost"
    )


NOTHING = dict.fromkeys([*joining._TORCH, *joining._SUBMITIT, *joining._SLURM, "SLURM_STEP_NODELIST"])


@pytest.mark.parametrize(
    ("environment", "rank", "host"),
    [
        ({}, (0, 1, 0), "127.0.0.1"),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_STEP_NUM_TASKS": "2"}, (3, 4, 1), None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1, 0), "127.0.0.1"),  # a shell in an allocation
        (
            {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1",
             "SLURM_STEP_NODELIST": "gpu[003-004,007]-ib,login1"},
            (5, 8, 1), "gpu003-ib",
        ),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a7,b[1-2]"}, (0, 2, 0), "a7"),
        (
            {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_LOCALID": "1",
             "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "a7"},
            (1, 2, 1), "127.0.0.1",
        ),
    ],
)  # fmt: skip
def test_who_a_process_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], rank: tuple[int, ...], host: str | None
) -> None:
    for name in NOTHING:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = joining.started()
    assert (found.rank, found.count, found.local) == rank
    if host is not None:
        assert joining._first_host() == host
        assert 20000 <= joining._port() < 30000
