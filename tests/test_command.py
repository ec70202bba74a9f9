"""However a command ends, it says so in a sentence, with the exit status that was promised; no traceback."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from disks import needs_root, small_disk
from running import ROOT, as_from_a_terminal

from proofcard.errors import explained

PROGRAM = """
import pathlib, sys, types
module = types.ModuleType("work")
exec(pathlib.Path(sys.argv[1]).read_text("utf-8"), vars(module))
sys.modules["work"] = module
from proofcard.command import run
run(sys.argv[2], "work", sys.argv[4:], failed=int(sys.argv[3]))
"""
FAILS = "def run(words):\n    "
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "pipeline"), "PATH": os.environ["PATH"], "HOME": "/root"}


def run(
    work: str, cwd: Path, *words: str, command: str = "quantize", failed: int = 1, before: str = "exec ",
    **environment: str,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """A command whose work is the given function's body, started by a shell; `before` is in front of it."""
    source = cwd.with_name(f"{cwd.name}.py")
    source.write_text(FAILS + work, encoding="utf-8")
    arguments = [sys.executable, "-c", PROGRAM, str(source), command, str(failed), *words]
    return subprocess.run(
        ["bash", "-c", f'{before}"$@"', "bash", *arguments], cwd=cwd, env=ENVIRONMENT | environment,
        capture_output=True, text=True, check=False, errors="replace", preexec_fn=as_from_a_terminal,
    )  # fmt: skip


ENDS = [
    ("raise OSError(28, 'No space left on device')", 1, "the disk is full: free some space"),
    ("raise OSError(122, 'Disk quota exceeded', '/data/x')", 1, "/data/x: the disk quota is exceeded: free"),
    ("raise OSError(30, 'Read-only file system', '/data/x')", 1, "/data/x: this filesystem is read-only: "),
    ("raise PermissionError(13, 'Permission denied', 'runs/x')", 1, "runs/x: permission denied: change its"),
    ("open('gone/x', 'w')", 1, "gone/x: it does not exist: check the path"),
    ("open('.', 'w')", 1, ".: this is a folder, but a file is needed: choose another name"),
    ("open('x' * 300, 'w')", 1, "the name is too long for this filesystem: choose a shorter path"),
    ("import os; os.rename('a', 'b')", 1, "a -> b: it does not exist"),
    ("raise OSError('Could not load the tokenizer of x')", 1, "Could not load the tokenizer of x"),
    ("raise ConnectionRefusedError(111, 'Connection refused')", 1, "Connection refused"),
    ("raise RuntimeError('I/O error: No space left on device (os error 28)')", 1, "the disk is full: free"),
    ("raise MemoryError", 1, "not enough memory: stop other programs"),
    ("class OutOfMemoryError(RuntimeError): pass\n    raise OutOfMemoryError('CUDA')", 1, "the GPU ran"),
    ("raise KeyError('x')", 1, "this is a bug of proofcard (KeyError: 'x'): please report it with "),
    ("raise RecursionError('deep')", 1, "this is a bug of proofcard (RecursionError: deep): please"),
    ("raise UnicodeEncodeError('utf-8', 'a', 0, 1, 'no')", 1, "this is a bug of proofcard (UnicodeEncodeErr"),
    ("from proofcard.errors import Stop; raise Stop('so it is')", 1, "so it is"),
    ("from proofcard.errors import Usage; raise Usage('so it is')", 2, "so it is"),
]  # fmt: skip


@pytest.mark.parametrize(("work", "status", "sentence"), ENDS)
def test_every_end_is_a_sentence(tmp_path: Path, work: str, status: int, sentence: str) -> None:
    done = run(work, tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert line.startswith("quantize: ")
    assert sentence in line


EACH = """
import os, sys
import proofcard.command
program, *sources = sys.argv[1:]
for source in sources:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(f"{source}.err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv[1:] = [source, "verify", "2"]
        exec(program)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_verify_never_fails_with_the_status_that_says_a_checkpoint_differs(tmp_path: Path) -> None:
    """Each end in a process of its own, forked from one that has imported what all do."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    sources = [tmp_path / str(number) for number in range(len(ENDS))]
    for source, (work, _, _) in zip(sources, ENDS, strict=True):
        source.write_text(FAILS + work, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", EACH, PROGRAM, *sources], cwd=cwd,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2"] * len(ENDS)
    for source, (work, _, sentence) in zip(sources, ENDS, strict=True):
        assert sentence in source.with_suffix(".err").read_text(errors="replace"), work
    assert run("return 1", tmp_path, command="verify", failed=2).returncode == 1


@pytest.mark.parametrize("work_dir", [True, False])
def test_the_traceback_of_a_bug_is_in_a_file_without_secrets(tmp_path: Path, work_dir: bool) -> None:
    words = ["work_dir=w"] if work_dir else []
    (tmp_path / "w").mkdir()
    done = run(
        "raise KeyError('swordfish-77')", tmp_path, *words, HF_TOKEN="swordfish-77", TMPDIR=str(tmp_path)
    )
    found = re.search(r"please report it with (\S+)$", done.stderr.strip())
    assert found
    path = tmp_path / found[1]
    assert path.parent == (tmp_path / "w" / "errors" if work_dir else tmp_path)
    assert "Traceback (most recent call last)" in path.read_text()
    assert "KeyError: '[redacted]'" in path.read_text()
    assert "swordfish" not in done.stderr
    assert (
        "Traceback" in run("raise KeyError('x')", tmp_path, PROOFCARD_DEBUG="1", TMPDIR=str(tmp_path)).stderr
    )


@pytest.mark.parametrize(
    ("work", "goes_on"),
    [("raise KeyboardInterrupt", True), ("raise OSError(28, 'full')", True), ("raise Stop('wrong')", False),
     ("raise Usage('wrong')", False), ("raise KeyError", False), ("raise OSError(13, 'no', 'x')", False)],
)  # fmt: skip
def test_what_will_fail_again_is_not_said_to_go_on(tmp_path: Path, work: str, goes_on: bool) -> None:
    done = run(f"from proofcard.errors import Stop, Usage; {work}", tmp_path, TMPDIR=str(tmp_path))
    assert ("the same command" in done.stderr) == goes_on


READER_GONE = "import time\n    time.sleep(0.3)\n    print('x' * 100_000, flush=True)\n    return {}"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_reader_that_goes_away_changes_nothing(tmp_path: Path, status: int) -> None:
    done = run(READER_GONE.format(status), tmp_path, before="set -o pipefail; { true; } | ", failed=2)
    assert done.returncode == status
    piped = run(READER_GONE.format(status), tmp_path, before="exec 3> >(true); exec 1>&3 3>&-; exec ")
    assert (piped.returncode, piped.stderr) == (status, "")


def test_a_table_printed_to_nobody_does_not_end_the_work(tmp_path: Path) -> None:
    work = "import time; from rich.console import Console\n    time.sleep(0.3)\n" + (
        "    for _ in range(3000): Console().print('x' * 70)\n    open('done', 'w')\n    return 0"
    )
    done = run(work, tmp_path, before="exec 3> >(true); exec 1>&3 3>&-; exec ")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_standard_output_on_a_full_disk_is_a_failure(tmp_path: Path) -> None:
    done = run("print('verified'); return 0", tmp_path, before="exec >/dev/full ", failed=2)
    assert done.returncode == 2
    assert done.stderr.startswith("quantize: standard output: the disk is full: free some space")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files_are_nobody_else_s(tmp_path: Path, closed: str) -> None:
    work = "file = open('own', 'w'); print('out'); sys.stderr.write('err'); file.write('mine'); return 0"
    done = run(f"import sys; {work}", tmp_path, before=f"exec {closed} ")
    assert done.returncode == 0
    assert (tmp_path / "own").read_text() == "mine"


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"},
     {"LANG": "de_DE.ISO-8859-1"}, {"COLUMNS": "0"}, {"COLUMNS": "1"}, {"COLUMNS": "²"},
     {"COLUMNS": "9" * 30}, {"COLUMNS": "999999999"}],
)  # fmt: skip
def test_every_locale_and_width_shows_the_whole(tmp_path: Path, environment: dict[str, str]) -> None:
    work = (
        "from rich.console import Console\n    Console().print('größer … \\udcff end'); print('…'); return 0"
    )
    done = run(work, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "er" in done.stdout and "end" in done.stdout
    assert len(done.stdout) < 5000


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = run("return 0", tmp_path, before="cd gone; rmdir ../gone; exec ")
    assert (done.returncode, done.stderr) == (
        2, "quantize: the working directory was removed: change to one that exists (cd)\n",
    )  # fmt: skip


def test_one_that_is_removed_while_the_work_goes_on_is_survived(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    work = "import os; os.rmdir('../gone'); from proofcard.progress import shown; from pathlib import Path"
    done = run(
        f"{work}\n    print(shown(Path('x')), shown(Path('/y'))); return 0", tmp_path, before="cd gone; exec "
    )
    assert (done.returncode, done.stdout) == (0, "x /y\n")


@needs_root
def test_a_user_without_a_name_and_a_home_has_both_as_libraries_see_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    work = "import getpass, os; print(getpass.getuser(), os.path.expanduser('~')); return 0"
    caps = "--inh-caps +dac_read_search --ambient-caps +dac_read_search"
    before = f"exec setpriv --reuid 54321 --regid 54321 --clear-groups {caps} env -u HOME "
    done = run(work, tmp_path, before=before)
    assert (done.returncode, done.stdout) == (0, "uid54321 /dev/null/no-home\n")
    assert list(tmp_path.iterdir()) == []  # no folder called `~`


CACHES = "import os; print(os.environ['TORCHINDUCTOR_CACHE_DIR'], os.environ.get('MPLCONFIGDIR')); return 0"


def test_compiled_code_is_kept_where_only_this_user_writes(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "file"
    home.mkdir()
    file.touch()
    assert run(CACHES, tmp_path, HOME=str(home)).stdout == f"{home}/.cache/torchinductor None\n"
    assert run(CACHES, tmp_path, TORCHINDUCTOR_CACHE_DIR="mine").stdout == "mine None\n"
    said = run(CACHES, tmp_path, HOME=str(file), TMPDIR=str(tmp_path)).stdout
    assert re.fullmatch(rf"({tmp_path}/proofcard-0-(torchinductor|matplotlib)-\w+ ?){{2}}\n", said)
    assert not list(tmp_path.glob("proofcard-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_as_an_interrupt_does(tmp_path: Path, number: int) -> None:
    done = run(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(5)", tmp_path)
    assert done.returncode == 128 + number
    assert done.stderr == "interrupted: no partial files were left; the same command starts over\n"


@needs_root
def test_the_disk_that_is_full_is_named(tmp_path: Path) -> None:
    work = "from proofcard.disk import write_whole; from pathlib import Path\n    "
    with small_disk(tmp_path / "small", 1):
        done = run(f"{work}write_whole(Path('small/report.json'), 'x' * (2 << 20))", tmp_path)
        assert done.stderr.startswith("quantize: small/report.json: the disk is full: free some space")
        assert list((tmp_path / "small").iterdir()) == []


def test_places_that_a_variable_chooses_are_said_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/data/hf")
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    read_only = OSError(errno.EROFS, "", "/data/hf/hub/x")
    assert (
        explained(read_only) == "/data/hf/hub/x: this filesystem is read-only: set HF_HOME to another place"
    )
    full = OSError(errno.ENOSPC, "", "/scratch/x")
    assert explained(full) == "/scratch/x: the disk is full: free some space, or set TMPDIR to another place"
