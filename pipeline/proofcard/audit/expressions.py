"""Arithmetic and comparisons over documents: the formulas of a claims file.

A small part of Python's syntax, walked and never executed: numbers, strings, lists, `+ - * / // % **`,
comparisons, `and or not`, `a if b else c`, fields (`plan.export.bytes`), places (`levels['1']`), `FUNCTIONS`.
"""

import ast
import math
import operator
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from proofcard.errors import Stop, one_line

_LONGEST = 1000  # characters of a formula
_LARGEST_EXPONENT = 64
_ENOUGH_BITS = 4096  # of a whole number that a formula may make


class Defined(Mapping[str, Any]):
    """Names with their values, and further ones that are formulas over them, evaluated when needed."""

    def __init__(self, values: Mapping[str, Any], formulas: Mapping[str, str]) -> None:
        self._values, self._formulas = values, formulas

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return evaluate(self._formulas[name], self._values)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._values, *self._formulas])

    def __len__(self) -> int:
        return len(list(iter(self)))


class FormulaError(Stop):
    """A formula that cannot be evaluated; the message quotes it."""


class Absent(FormulaError):
    """A formula that refers to a value that does not exist."""


def evaluate(formula: str, names: Mapping[str, Any]) -> Any:
    """The value of a formula. `names` are what it may refer to: JSON values.

    Raises:
        FormulaError: when it is not in the language above, or refers to a missing value.
    """
    if len(formula) > _LONGEST:
        raise FormulaError(f"a formula has {len(formula)} characters; the limit is {_LONGEST}")
    try:
        return _value(ast.parse(formula.strip(), mode="eval").body, names)
    except FormulaError as error:
        raise type(error)(f"{formula.strip()!r}: {error}") from None
    except SyntaxError as error:
        raise FormulaError(f"{formula.strip()!r} is not a formula: {error.msg}") from None
    except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise FormulaError(f"{formula.strip()!r}: {one_line(error) or type(error).__name__}") from None


def fill(template: str, names: Mapping[str, Any]) -> str:
    """A sentence with each `{formula}` or `{formula:format}` replaced by its value.

    Raises:
        FormulaError: as `evaluate`, or for a format that the value does not have.
    """
    parts = []
    try:
        for text, formula, form, _ in string.Formatter().parse(template):
            parts.append(text)
            if formula is not None:
                parts.append(_written(evaluate(formula, names), form or ""))
    except (ValueError, TypeError) as error:
        raise FormulaError(f"{template!r}: {one_line(error)}") from None
    return "".join(parts)


def _written(value: Any, form: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return format(value, form)


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as constant):
            return constant
        case ast.Name(id=name):
            return _part(names, name)
        case ast.Attribute(value=whole, attr=name):
            return _part(_value(whole, names), name)
        case ast.Subscript(value=whole, slice=place):
            return _part(_value(whole, names), _value(place, names))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, names) for item in items]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_value(operand, names))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            return _computed(type(sign), _number(left, names), _number(right, names))
        case ast.BoolOp(op=ast.And(), values=all_of):
            return all(_value(each, names) for each in all_of)
        case ast.BoolOp(op=ast.Or(), values=any_of):
            return any(_value(each, names) for each in any_of)
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return _value(body if _value(test, names) else otherwise, names)
        case ast.Compare(left=first, ops=signs, comparators=others):
            values = [_value(each, names) for each in [first, *others]]
            pairs = zip(values, signs, values[1:], strict=False)
            return all(_COMPARISONS[type(sign)](a, b) for a, sign, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise FormulaError(f"{ast.unparse(node)[:80]} is not allowed in a formula")


def _part(whole: Any, name: Any) -> Any:
    if isinstance(whole, Mapping) and name in whole:
        return whole[name]
    if isinstance(whole, list) and type(name) is int and -len(whole) <= name < len(whole):
        return whole[name]
    known = ", ".join(map(str, list(whole)[:12])) if isinstance(whole, Mapping) else type(whole).__name__
    raise Absent(f"there is no {name!r} in {known or 'an empty value'}")


def _number(node: ast.expr, names: Mapping[str, Any]) -> int | float:
    value = _value(node, names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormulaError(f"{ast.unparse(node)[:80]} is {value!r}, not a number")
    return value


def _computed(sign: type[ast.operator], left: int | float, right: int | float) -> Any:
    if sign is ast.Pow and abs(right) > _LARGEST_EXPONENT:
        raise FormulaError(f"an exponent of {right} is more than {_LARGEST_EXPONENT}")
    made = _ARITHMETIC[sign](left, right)
    if isinstance(made, int) and made.bit_length() > _ENOUGH_BITS:
        raise FormulaError("a number is too large")
    return made


def _where(items: Iterable[Any], field: str, value: Any) -> Any:
    """The first item whose field has that value."""
    for item in items:
        if item[field] == value:
            return item
    raise Absent(f"no item has {field}={value!r}")


def _total(items: Iterable[Any], field: str, of: str, part: str) -> Any:
    """The sum of a field over the items whose field `of` contains `part`."""
    return sum(item[field] for item in items if part in item[of])


def _fields(items: Any, field: str) -> list[Any]:
    """A field of every item of a list, or of every value of an object."""
    return [item[field] for item in (items.values() if isinstance(items, Mapping) else items)]


def _values(items: Mapping[str, Any]) -> list[Any]:
    return list(items.values())


def _says(texts: Iterable[str], part: str) -> bool:
    """Whether one of the texts contains `part`."""
    return any(part in text for text in texts)


def _sentence(findings: Mapping[str, Any], name: str) -> Any:
    """The sentence of the finding with that name, or that it is not reported."""
    return _part(findings, name) or "nothing is reported"


def _joined(items: Iterable[Any]) -> str:
    return ", ".join(map(str, items))


def _within(items: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether every item is one of the others."""
    return all(item in list(others) for item in items)


def _count(items: Iterable[Any], value: Any) -> int:
    return sum(item == value for item in items)


def _near(value: float, other: float, share: float) -> bool:
    """Whether two numbers differ by at most that share of the second."""
    return abs(value - other) <= share * abs(other)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "round": round, "ceil": math.ceil, "floor": math.floor, "min": min, "max": max, "sum": sum,
    "len": len, "all": all, "any": any, "sorted": sorted,
    "where": _where, "total": _total, "fields": _fields, "values": _values, "says": _says,
    "sentence": _sentence, "joined": _joined, "within": _within,
    "count": _count, "near": _near,
}  # fmt: skip
"""What a formula may call."""

_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
