"""Reduces Python source to what it does: its syntax tree without comments, docstrings and messages.

Two texts with the same `digest` do the same. The form is our own instead of `ast.dump`'s, which differs from
one Python to the next: empty or absent fields are omitted, so that a field added to the grammar changes
nothing, and strings are written in ASCII. Layout and comments are in no syntax tree.

What counts as a message, and so may be rewritten: a literal string or f-string that is

- an argument of `raise X(…)`, where X is one of `MESSAGE_ONLY`;
- an argument of `print(…)` to the screen, or of `console.print(…)`;
- the second half of an `assert`.

Every other string counts, and so does a message that is put together anywhere else: in doubt a change is a
change. An f-string that assigns or awaits inside its braces is not a message.
"""

import ast
from typing import Any

from proofcard.digest import sha256_json

MESSAGE_ONLY = frozenset({"Stop", "Usage", "ValueError", "TypeError", "RuntimeError", "TensorFileError"})
"""Exceptions whose text is only shown to people. Not UnreadableRow: manifests count rows by its text."""

_MESSAGE = ["message"]
_NOT_MEANING = {"ctx", "kind", "type_comment", "type_ignores"}
_EFFECTS = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)


def digest(source: str) -> str:
    """Hex sha256 of `canonical(source)`: equal on every Python that reads the source.

    Raises:
        SyntaxError: when it is not Python.
    """
    return sha256_json(canonical(source))


def canonical(source: str) -> Any:
    """The source's meaning as JSON values: a node is `[its class, {field: value}]`. Raises as `digest`."""
    return _node(ast.parse(source))


def _node(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, ascii(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _pieces(node)]
    fields = {name: _value(value) for name, value in ast.iter_fields(node) if name not in _NOT_MEANING}
    if isinstance(node, ast.Assert) and node.msg is not None and _is_message(node.msg):
        fields["msg"] = _MESSAGE
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _raises_message(node.exc):
        fields["exc"] = _silent(node.exc)
    if isinstance(node, ast.Call) and _prints(node):
        return _silent(node)
    return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]


def _value(value: Any) -> Any:
    if isinstance(value, ast.AST):
        return _node(value)
    if isinstance(value, list):
        return [_value(item) for item in value if not _is_note(item)]
    return value


def _is_note(item: Any) -> bool:
    """Whether it is a string expression by itself, such as a docstring, which does nothing."""
    return (
        isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and type(item.value.value) is str
    )


def _pieces(string: ast.JoinedStr) -> list[Any]:
    """The parts of an f-string, with texts joined that Python versions split differently."""
    pieces: list[Any] = []
    for part in string.values:
        if not (isinstance(part, ast.Constant) and isinstance(part.value, str)):
            pieces.append(part)
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += part.value
        elif part.value:
            pieces.append(part.value)
    return [ascii(piece) if isinstance(piece, str) else _node(piece) for piece in pieces]


def _silent(call: ast.Call) -> Any:
    """A call without its messages, keeping the number of arguments."""
    args = [_MESSAGE if _is_message(argument) else _value(argument) for argument in call.args]
    fields = {"func": _value(call.func), "args": args, "keywords": _value(call.keywords)}
    return ["Call", {name: value for name, value in fields.items() if value != []}]


def _is_message(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.JoinedStr) and not any(isinstance(part, _EFFECTS) for part in ast.walk(node))


def _raises_message(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in MESSAGE_ONLY


def _prints(call: ast.Call) -> bool:
    to_a_file = any(keyword.arg in ("file", None) for keyword in call.keywords)
    return ast.unparse(call.func) in ("print", "console.print") and not to_a_file
