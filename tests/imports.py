"""Which modules of the package a module imports, read from its source: lazily imported ones too."""

import ast
from functools import cache
from pathlib import Path

from proofcard.deciding import path_of

_DYNAMIC = ("import_module", "run_path", "run_module")
_BUILT_IN = ("__import__", "exec", "eval")


def imported(module: str, package: Path) -> set[str]:
    """Modules of the package by their names without `proofcard.`, wherever in the module they are imported.

    The packages on the way to a module are imported with it. What only a type checker sees is not.
    """
    path = path_of(module, package)
    names = _names(module, path.name == "__init__.py", path.read_text(encoding="utf-8"))
    ours = {name.removeprefix("proofcard.") for name in names if name.startswith("proofcard.")}
    found = set()
    for name in ours:
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return {name for name in found if path_of(name, package).is_file() and _does_something(name, package)} - {
        module
    }


@cache
def _names(module: str, is_package: bool, source: str) -> frozenset[str]:
    """All that a module of this source imports, by absolute names."""
    names: set[str] = set()
    for node in _running(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = _home(module, is_package, node)
            names |= {home, *(f"{home}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def dynamic(module: str, package: Path) -> set[str]:
    """Calls that import or run what no reading of the source can tell."""
    called = set()
    for node in _running(ast.parse(path_of(module, package).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            home, _, name = ast.unparse(node.func).rpartition(".")
            if name in _DYNAMIC or (not home and name in _BUILT_IN):
                called.add(name)
    return called


def _running(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`."""
    nodes, left = [], [tree]
    while left:
        node = left.pop()
        nodes.append(node)
        skipped = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        left += node.orelse if skipped else list(ast.iter_child_nodes(node))
    return nodes


def _home(module: str, is_package: bool, node: ast.ImportFrom) -> str:
    """The absolute name that a `from … import` begins with."""
    if not node.level:
        return str(node.module)
    parts = ["proofcard", *module.split(".")]
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _does_something(module: str, package: Path) -> bool:
    """An `__init__.py` with a docstring alone does nothing."""
    return _has_statements(path_of(module, package).read_text(encoding="utf-8"))


@cache
def _has_statements(source: str) -> bool:
    body = ast.parse(source).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
