"""Activation puts the folder first, tells child processes, and refuses when it would be too late."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from proofcard.toolchain import ToolchainError, activate, installed, materialise


@pytest.fixture(autouse=True)
def _own_import_state(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for name in [name for name in sys.modules if name.partition(".")[0] == "modelopt"]:
        monkeypatch.delitem(sys.modules, name)


def imported_from(folder: Path) -> ModuleType:
    module = ModuleType("modelopt")
    module.__file__ = str(folder / "modelopt/__init__.py")
    return module


def test_first_on_the_path_of_this_process_and_its_children(root):
    tools = materialise("fixed", root)
    activate(tools)
    activate(tools)
    assert sys.path[0] == str(tools.path)
    assert sys.path.count(str(tools.path)) == 1
    assert os.environ["PYTHONPATH"] == f"{tools.path}{os.pathsep}elsewhere"


def test_the_last_one_activated_wins_and_is_no_upstream(root):
    for series in ("fixed", "as_published"):
        tools = materialise(series, root)
        activate(tools)
    assert sys.path[0] == str(tools.path)
    assert materialise("fixed", root).files[0].before in installed.find("nvidia-modelopt").files.values()


def test_none_changes_nothing(root):
    before = list(sys.path)
    activate(materialise("none", root))
    assert sys.path == before
    assert os.environ["PYTHONPATH"] == "elsewhere"


def test_too_late_after_an_import_from_elsewhere(root, monkeypatch):
    tools = materialise("fixed", root)
    monkeypatch.setitem(sys.modules, "modelopt", imported_from(tools.path))
    activate(tools)
    for other in ("as_published", "none"):
        with pytest.raises(ToolchainError, match=f"modelopt was imported already, from {tools.path}"):
            activate(materialise(other, root))


def test_none_is_refused_where_another_is_first(root):
    activate(materialise("fixed", root))
    with pytest.raises(ToolchainError, match=r"would come from .* not from the toolchain none"):
        activate(materialise("none", root))
