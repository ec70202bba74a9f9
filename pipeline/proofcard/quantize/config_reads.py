"""Which configuration keys a model reads, according to the source code of its classes.

A key is read where the code accesses the configuration's attribute, or where the configuration's own class
does more with the parameter than store it. Running the model and watching would miss keys that are only read
in branches that a first batch does not take.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from proofcard.quantize.spelling import parameters

_OWN = ("transformers.models.", "transformers_modules.")  # model code; the rest of transformers is shared
_ROPE = "ROPE_INIT_FUNCTIONS"
_ROPE_IF_OWN = (
    "head_dim",
    "partial_rotary_factor",
)  # read by its formulas, and by the rest of a class that has them
_BY_SHARED_CODE = frozenset(
    {"is_causal", "scaling", "sliding_window"}
)  # attributes of a module that transformers' attention functions read
_SHARED = {  # functions of transformers that read a configuration, and which keys
    _ROPE: ("rope_scaling", "rope_theta", "max_position_embeddings"),
    "create_sliding_window_causal_mask": ("sliding_window",),
    "create_chunked_causal_mask": ("attention_chunk_size",),
}


def reads(model: Any) -> frozenset[str]:
    """Names of the configuration attributes that the model's classes read and use."""
    found: set[str] = set()
    files = _files(model)
    used = {name for file in files for name in _loaded(file)}
    for file in files:
        found |= {key for key, stored_as in _accessed(file) if stored_as is None or stored_as in used}
        for word, keys in _SHARED.items():
            if word in _mentioned(file):
                found |= set(keys)
        if _ROPE in _mentioned(file):
            found |= {key for key in _ROPE_IF_OWN if key in parameters(type(model.config))}
    for cls in type(model.config).__mro__:
        if cls.__module__.startswith(_OWN) and (source := inspect.getsourcefile(cls)):
            found |= _used_by_class(Path(source), cls.__name__)
    return frozenset(found | {"tie_word_embeddings"})


def names_in_source(model: Any) -> set[str]:
    """Every name and every quoted identifier in the source code of the model's classes."""
    return {word for file in _files(model) for word in _mentioned(file)}


def _files(model: Any) -> set[Path]:
    """The source files of the classes that the model is made of."""
    modules = {type(module).__module__ for module in model.modules()}
    modules |= {cls.__module__ for module in model.modules() for cls in type(module).__mro__}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in modules if name.startswith(_OWN))
    return {Path(file) for file in files if file}


@lru_cache(maxsize=64)
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _mentioned(file: Path) -> frozenset[str]:
    nodes = list(ast.walk(_tree(file)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    quoted = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return frozenset(names | {word for word in quoted if word.isidentifier()})


@lru_cache(maxsize=64)
def _accessed(file: Path) -> frozenset[tuple[str, str | None]]:
    """Attributes read from anything named like a configuration, by `.` or by `getattr`.

    Each comes with the attribute in which it is merely stored, as in `self.name = config.key`, else None.
    """
    found: set[tuple[str, str | None]] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, keys = node.targets[0], list(_keys(node.value))
            if isinstance(target, ast.Attribute) and keys and not _is_config(target.value):
                found.update((key, target.attr) for key in keys)
                return
        found.update((key, None) for key in _keys(node))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(_tree(file))
    return frozenset(found)


def _keys(node: ast.AST) -> Iterator[str]:
    """The key that an expression reads, if it does nothing else."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _is_config(node.value):
        yield node.attr
    elif isinstance(node, ast.Call):
        yield from _looked_up(node)


@lru_cache(maxsize=64)
def _loaded(file: Path) -> frozenset[str]:
    """Attributes of anything but a configuration that are used, by `.` or by `getattr`."""
    nodes = list(ast.walk(_tree(file)))
    by_dot = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and not _is_config(node.value)
    }
    return frozenset(by_dot | _BY_SHARED_CODE)


def _looked_up(call: ast.Call) -> Iterator[str]:
    """`getattr(config, "key", …)`, `config.get("key")`, `kwargs.pop("key")`."""
    function, arguments = call.func, call.args
    by_name = isinstance(function, ast.Name) and function.id in ("getattr", "hasattr") and len(arguments) > 1
    if by_name and _is_config(arguments[0]):
        key = arguments[1]
    elif (
        isinstance(function, ast.Attribute)
        and function.attr in ("get", "pop")
        and _is_config(function.value)
        and arguments
    ):
        key = arguments[0]
    else:
        return
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        yield key.value


def _is_config(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lower().endswith(("config", "cfg", "args"))  # `kwargs` of the configuration's own class too


@lru_cache(maxsize=64)
def _used_by_class(file: Path, name: str) -> frozenset[str]:
    """Parameters that a configuration class does more with than store, validate or pass to its base."""
    found: set[str] = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for function in node.body:
                if isinstance(function, ast.FunctionDef):
                    found |= _used(function)
    return frozenset(found)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _used(function: ast.FunctionDef) -> set[str]:
    arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)} - {"self"}
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and target.attr == node.value.id:
                return  # self.key = key
        if isinstance(node, ast.Call):
            found.update(_looked_up(node))
            callee = ast.unparse(node.func)
            if "validation" in callee or callee == "super().__init__":
                return
        if isinstance(node, ast.Name) and node.id in arguments and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _is_self(node.value):
            found.add(node.attr)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in function.body:
        visit(statement)
    return found
