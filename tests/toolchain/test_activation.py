"""What is imported is a private copy, checked byte by byte; nothing that was put into a folder runs."""

import importlib.util
import os
import py_compile
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from proofcard import scratch
from proofcard.toolchain import (
    Toolchain,
    ToolchainError,
    activate,
    activation,
    installed,
    materialise,
    private,
)


@pytest.fixture(autouse=True)
def _own_import_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(activation, "_copies", {})
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for name in [name for name in sys.modules if name.partition(".")[0] == "modelopt"]:
        monkeypatch.delitem(sys.modules, name)


def imported_from(folder: Path) -> ModuleType:
    module = ModuleType("modelopt")
    module.__file__ = str(folder / "modelopt/__init__.py")
    return module


def active(tools: Toolchain) -> Path:
    """The copy that is imported from."""
    activate(tools)
    return Path(sys.path[0])


def test_first_on_the_path_of_this_process_and_its_children(root: Path) -> None:
    tools = materialise("fixed", root)
    copy = active(tools)
    assert active(tools) == copy
    assert sys.path.count(str(copy)) == 1
    assert os.environ["PYTHONPATH"] == f"{copy}{os.pathsep}elsewhere"
    assert private.is_checked_copy(copy, tools)
    assert not copy.is_relative_to(root)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_the_last_one_activated_wins_and_is_no_upstream(root: Path) -> None:
    for series in ("fixed", "none", "as_published"):
        tools = materialise(series, root)
        assert private.is_checked_copy(active(tools), tools)
    assert materialise("fixed", root).files[0].before in installed.find("nvidia-modelopt").files.values()


def test_too_late_after_an_import_from_elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = materialise("fixed", root)
    copy = active(tools)
    monkeypatch.setitem(sys.modules, "modelopt", imported_from(copy))
    activate(tools)
    activation._copies.clear()  # as in a process forked from one that has imported it
    activate(tools)
    for other in ("as_published", "none"):
        with pytest.raises(ToolchainError, match=f"modelopt was already imported from {copy}"):
            activate(materialise(other, root))
    monkeypatch.setitem(sys.modules, "modelopt", imported_from(tools.path))
    activation._copies.clear()
    with pytest.raises(ToolchainError, match="modelopt was already imported"):
        activate(tools)  # the folder for all to see is no private copy


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Toolchain:
    """A folder of the series that a test may tamper with."""
    name = materialise("as_published", root).path.name
    shutil.copytree(root / name, tmp_path / "own" / name)
    return materialise("as_published", tmp_path / "own")


@pytest.fixture(scope="module")
def of_several(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    """One that several tests tamper with, one after another."""
    folder = tmp_path_factory.mktemp("of_several")
    name = materialise("as_published", root).path.name
    shutil.copytree(root / name, folder / name)
    return materialise("as_published", folder)


@pytest.fixture
def lent(of_several: Toolchain, root: Path) -> Iterator[Toolchain]:
    """The same, which is as it was when the test is over."""
    yield of_several
    whole = root / of_several.path.name
    for path in sorted(of_several.path.rglob("*"), reverse=True):
        if not (whole / path.relative_to(of_several.path)).exists():
            path.rmdir() if path.is_dir() else path.unlink()
    (of_several.path / IMPORTED).unlink(missing_ok=True)
    shutil.copyfile(whole / IMPORTED, of_several.path / IMPORTED)
    assert materialise(of_several.series, of_several.path.parent) == of_several


def import_it(
    tools: Toolchain, tmp_path: Path, statement: str = "import modelopt"
) -> subprocess.CompletedProcess:
    """Import in a new process, and in a child of it."""
    program = (
        "import subprocess, sys; from pathlib import Path\n"
        "from proofcard.toolchain import activate, materialise\n"
        f"activate(materialise({tools.series!r}, Path({str(tools.path.parent)!r})))\n"
        f"{statement}\n"
        f"subprocess.run([sys.executable, '-c', {statement!r}], check=True)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    words = [sys.executable, "-c", program]
    return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def planted(tmp_path: Path) -> str:
    return f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\n"


def byte_code(source: Path, text: str, to: Path) -> None:
    """Byte code of another text that passes for that of `source`: its time and size are in the header."""
    status = source.stat()
    padded = text + "#" * (status.st_size - len(text) - 1) + "\n"
    evil = to.with_name("evil.py")
    to.parent.mkdir(exist_ok=True, parents=True)
    evil.write_text(padded)
    os.utime(evil, ns=(status.st_mtime_ns, status.st_mtime_ns))
    py_compile.compile(str(evil), cfile=str(to), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    evil.unlink()


IMPORTED = "modelopt/__init__.py"


def test_planted_byte_code_of_a_genuine_file_does_not_run(own: Toolchain, tmp_path: Path) -> None:
    source = own.path / IMPORTED
    byte_code(source, planted(tmp_path), Path(importlib.util.cache_from_source(str(source))))
    vanilla = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(own.path)!r}); import modelopt"]
    subprocess.run(vanilla, check=True)
    assert (tmp_path / "ran").exists(), "the plant is one that Python itself would run"
    (tmp_path / "ran").unlink()
    done = import_it(own, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_byte_code_of_the_installed_package_does_not_run(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    byte_code(
        site / IMPORTED, planted(tmp_path), Path(importlib.util.cache_from_source(str(site / IMPORTED)))
    )
    tools = materialise("none", site=site)
    copy = active(tools)
    assert {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()} == {
        *tools.content, installed.MARKER,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "modelopt/more.pyc", "modelopt/__init__.cpython-311-x86_64-linux-gnu.so", "modelopt.py", "a.pth",
        "modelopt/torch/utils.abi3.so", "sitecustomize.py", "torch/__init__.py", "modelopt/torch.py",
    ],
)  # fmt: skip
def test_whatever_else_lies_in_the_folder_stops(lent: Toolchain, name: str) -> None:
    (lent.path / name).parent.mkdir(exist_ok=True)
    (lent.path / name).write_text("")
    with pytest.raises(ToolchainError, match=f"is broken: {name} was added; delete that folder"):
        materialise(lent.series, lent.path.parent)
    assert name not in lent.content


@pytest.mark.parametrize("harm", ["text", "fifo", "gone", "huge", "link"])
def test_what_changes_between_the_check_and_the_import_stops(
    lent: Toolchain, tmp_path: Path, harm: str
) -> None:
    file = lent.path / IMPORTED
    genuine = file.read_text()
    file.unlink()
    if harm == "text":
        file.write_text(genuine + planted(tmp_path))
    elif harm == "fifo":
        os.mkfifo(file)
    elif harm == "huge":
        with file.open("wb") as opened:
            opened.truncate(1 << 40)
    elif harm == "link":
        file.symlink_to("/etc/hostname")
    with pytest.raises(
        ToolchainError, match=rf"is broken: {IMPORTED} (was changed|cannot be read \(No such)"
    ):
        activate(lent)
    assert not (tmp_path / "ran").exists()


def test_another_s_folder_of_toolchains_is_only_read(
    own: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROOFCARD_TOOLCHAINS", str(own.path.parent))
    tools = materialise(own.series, tmp_path / "none")
    assert tools.path == own.path
    before = sorted(path for path in own.path.rglob("*"))
    assert not active(tools).is_relative_to(own.path.parent)
    assert sorted(path for path in own.path.rglob("*")) == before


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder


def test_copies_of_killed_processes_are_removed_and_no_others(own: Toolchain, temporary: Path) -> None:
    copy = active(own)
    dead, young, other = (temporary / f"{scratch._prefix()}{name}" for name in ("dead", "young", "held"))
    for folder in (dead, young, other):
        folder.mkdir(mode=0o700)
    scratch._hold(other)
    (temporary / f"{scratch._prefix()}link").symlink_to(own.path)
    for folder in (copy, dead, other):
        os.utime(folder, (time.time() - 3600,) * 2)
    activation._copies.clear()
    active(own)
    assert copy.exists() and young.exists() and other.exists()
    assert not dead.exists()
    assert own.path.exists()


def test_a_copy_goes_with_its_process(own: Toolchain, tmp_path: Path) -> None:
    done = import_it(own, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("proofcard-*"))


def test_a_folder_in_which_anybody_may_exchange_it_is_refused(own: Toolchain, temporary: Path) -> None:
    temporary.chmod(0o777)
    with pytest.raises(ToolchainError, match=r"other users can replace files in .* set TMPDIR"):
        activate(own)
    temporary.chmod(0o1777)
    activate(own)


def test_no_room_for_the_copy_is_said_with_the_folder(
    own: Toolchain, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        ToolchainError, match=rf"{temporary}/.*: the disk is full: free some space, or set TMPDIR to"
    ):
        activate(own)
