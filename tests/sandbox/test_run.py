"""A whole program in the sandbox: its folder, its output, its limits, its end."""

from pathlib import Path

import pytest

from proofcard.sandbox import Ended, Limits, run, started


def program(folder: Path, text: str, **files: str) -> Path:
    for name, content in files.items():
        (folder / f"{name}.py").write_text(content)
    (folder / "program.py").write_text(text)
    return folder / "program.py"


def test_a_program_reads_its_folder_and_prints(tmp_path: Path) -> None:
    made = program(
        tmp_path, "import beside\nprint(beside.N, open('beside.py').read(), input())", beside="N = 3"
    )
    told = run(made, tmp_path, stdin=b"word\n")
    assert told.succeeded and told.output == b"3 N = 3 word\n" and told.how == "ended with status 0"


def test_nothing_beside_its_folder_is_read_and_nothing_in_it_written(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link").symlink_to(tmp_path / "secret")
    text = (
        "for name in ('../secret', 'link', 'new'):\n"
        "    try: print(name, open(name, 'w' if name == 'new' else 'r'))\n"
        "    except PermissionError: print(name, 'refused')\n"
    )
    told = run(program(tmp_path / "own", text), tmp_path / "own")
    assert told.output == b"../secret refused\nlink refused\nnew refused\n"
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"link", "program.py"}


def test_errors_are_part_of_the_output(tmp_path: Path) -> None:
    told = run(program(tmp_path, "print(1, flush=True)\n1 / 0"), tmp_path)
    assert not told.succeeded and told.how == "ended with status 1"
    assert told.output.startswith(b"1\nTraceback") and b"ZeroDivisionError" in told.output


@pytest.mark.parametrize(
    ("text", "limits", "how"),
    [
        ("import time\ntime.sleep(9)", Limits(seconds=0.5), "was stopped after 0.5 s"),
        ("print('x' * 9999)", Limits(output=4096), "was stopped: it printed more than 4 KiB"),
        ("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(9)", Limits(seconds=0.5), "was stopped"),
        ("import ctypes\nctypes.string_at(0)", Limits(), "was killed by SIGSEGV"),
        ("a = bytearray(1 << 27)", Limits(memory=1 << 27), "ended with status 1"),
    ],
)
def test_a_limit_ends_it(tmp_path: Path, text: str, limits: Limits, how: str) -> None:
    told = run(program(tmp_path, text), tmp_path, limits)
    assert not told.succeeded and told.how.startswith(how)


def test_a_program_that_does_not_listen_ends_too(tmp_path: Path) -> None:
    silent = program(tmp_path, "import time\ntime.sleep(9)")
    with (
        started(silent, limits=Limits(seconds=0.5)) as running,
        pytest.raises(Ended, match="was stopped after"),
    ):
        running.send(b"x" * (1 << 20))
    ended = program(tmp_path, "pass")
    with started(ended) as running, pytest.raises(Ended, match="ended with status 0"):
        running.line()
    assert run(ended, stdin=b"x" * (1 << 20)).how == "ended with status 0"
