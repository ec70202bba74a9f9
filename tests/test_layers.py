"""Which room may use which: no import leads upward, and none leads back to where it came from."""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from imports import imported

import proofcard

PACKAGE = Path(proofcard.__file__).parent
LOWEST = {"config", "documents", "nvfp4", "sandbox", "toolchain"}
"""Rooms that use none but each other."""

Graph = dict[str, set[str]]


def modules() -> Graph:
    """Every module and those it imports, lazily too; the packages that a module is itself in are left out."""
    files = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = {path.as_posix().replace("/", ".").removesuffix(".__init__") for path in files} - {"__init__"}
    return {
        name: {other for other in imported(name, PACKAGE) if not name.startswith(f"{other}.")}
        for name in names
    }


def room(module: str) -> str:
    """The folder of a module; a module beside the folders is a room of its own."""
    return module.split(".")[0]


def rooms(graph: Graph) -> Graph:
    used: Graph = {}
    for module, others in graph.items():
        used.setdefault(room(module), set()).update(map(room, others))
    return {name: others - {name} for name, others in used.items()}


def circle(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def graph() -> Graph:
    return modules()


def test_no_module_imports_itself_through_others(graph: Graph) -> None:
    assert circle(graph) == []


def test_no_room_uses_itself_through_others(graph: Graph) -> None:
    assert circle(rooms(graph)) == []


def test_what_is_lowest_uses_no_other_room(graph: Graph) -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    used = rooms(graph)
    assert {name: used[name] & folders - LOWEST for name in LOWEST} == {name: set() for name in LOWEST}


def test_no_room_borrows_from_another_s_command(graph: Graph) -> None:
    borrowed = {
        (module, other)
        for module, others in graph.items()
        for other in others
        if other.endswith(".command") and room(module) != room(other)
    }
    assert borrowed == set()


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
