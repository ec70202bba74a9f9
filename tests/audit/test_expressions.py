"""Formulas: what they compute, and that nothing else can be reached through them."""

import pytest

from proofcard.audit.expressions import Absent, FormulaError, evaluate, fill

NAMES = {
    "plan": {
        "export": {
            "bytes": 139_862_995_440, "groups": [{"role": "experts", "n": 2}, {"role": "router", "n": 3}],
        }
    },
    "numbers": {"gigabytes": 131, "types": ["U8", "F32"]},
    "findings": {"requests_queue": "requests wait", "gpu_missing": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1 + 2 * 3 ** 2 - 8 / 4", 17.0),
        ("7 // 2 == 3 and 7 % 2 == 1", True),
        ("round(plan.export.bytes / 1e9) == numbers.gigabytes", False),
        ("ceil(plan.export.bytes / 2**30)", 131),
        ("where(plan.export.groups, 'role', 'router').n", 3),
        ("total(plan.export.groups, 'n', 'role', 'r')", 5),
        ("sum(fields(plan.export.groups, 'n'))", 5),
        ("plan.export.groups[0].role", "experts"),
        ("plan['export'].groups[-1]['n']", 3),
        ("1 < 2 < 3 and not 3 < 2 < 5", True),
        ("'U8' in numbers.types and 'BF16' not in numbers.types", True),
        ("within(['U8'], numbers.types)", True),
        ("1 if numbers.gigabytes > 130 else 0", 1),
        ("near(90, 88.4, 0.02)", True),
        ("count([None, 1, None], None)", 2),
        ("says(['SGLang runs triton'], 'triton')", True),
        ("sentence(findings, 'requests_queue')", "requests wait"),
        ("sentence(findings, 'gpu_missing')", "nothing is reported"),
        ("-numbers.gigabytes", -131),
        ("False and nothing.at.all", False),
    ],
)
def test_a_formula_is_computed(formula: str, value: object) -> None:
    assert evaluate(formula, NAMES) == value


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')", "plan.__class__", "(lambda: 1)()", "[x for x in plan]",
        "open('/etc/passwd')", "'a' * 10 ** 9", "9 ** 9 ** 9", "10 ** 64 * 10 ** 64 ** 64", "f'{plan}'",
         "plan.export.bytes.bit_length()", "numbers.types.append(1)", "1 +", "True + True", "1 / 0",
        "x" * 2000,
        "(" * 900 + ")" * 900, "sum(1)", "round('a')", "{**plan}", "*plan", "print(1)", "max()",
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_a_sentence(formula: str) -> None:
    with pytest.raises(FormulaError) as stop:
        evaluate(formula, NAMES)
    assert "\n" not in str(stop.value)
    assert len(str(stop.value)) < 2500


def test_what_is_not_there_is_told_apart_from_what_is_wrong() -> None:
    for formula in ("plan.export.tensors", "where(plan.export.groups, 'role', 'norms')", "nothing"):
        with pytest.raises(Absent):
            evaluate(formula, NAMES)
    with pytest.raises(FormulaError) as stop:
        evaluate("1 + 'a'", NAMES)
    assert not isinstance(stop.value, Absent)


def test_a_sentence_is_filled_and_its_format_checked() -> None:
    text = "{plan.export.bytes / 1e9:.1f} GB, {numbers.gigabytes:,}, {1 == 1}, {None}"
    assert fill(text, NAMES) == "139.9 GB, 131, true, nothing"
    for wrong in ("{numbers.types:,}", "{numbers.gigabytes", "{numbers.gigabytes:q}"):
        with pytest.raises(FormulaError):
            fill(wrong, NAMES)
