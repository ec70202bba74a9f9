"""The comparison as sentences and tables."""

from typing import Any

from proofcard.compare import report
from proofcard.documents.base import Difference
from proofcard.documents.comparison import (
    Comparison,
    Coverage,
    FileDifference,
    Ratio,
    ScaleRatio,
    Side,
    TensorGroup,
)


def group(**fields: Any) -> TensorGroup:
    numbers = {
        "tensors": 3, "differ": 1, "bytes_a": 200, "bytes_b": 200, "bytes_differ": 5, "steps": 2, "rounded": 0
    }  # fmt: skip
    return TensorGroup(**{"role": "experts", "dtype_a": "U8", "dtype_b": "U8"} | numbers | fields)


def comparison(**fields: Any) -> Comparison:
    seen = Coverage(
        experts=4,
        cold=1,
        routed_smallest=0,
        routed_mean=5,
        routed_largest=9,
        forced_experts=0,
        forced_largest=0,
    )
    whole: dict[str, Any] = {
        "a": Side(name="mine", recipe="demo", key="0" * 64, altered=[]),
        "b": Side(name="the|irs", recipe=None, key=None, altered=[]),
        "tensors": [group(), group(dtype_a="F32", dtype_b="BF16", differ=3, rounded=2)],
        "files": [FileDifference(name="x.json", a="0" * 64, b=None)],
        "configuration": [Difference(name="kv_cache.format", a="fp8", b=None)],
        "statistics": [],
        "coverage": [seen, seen],
        "scales": {
            "inputs of w1": ScaleRatio(
                quantizers=2, equal=0.5, within_1_percent=0.5, within_5_percent=1.0, smallest=0.96,
                median=1.0, largest=1.0,
            )
        },
    }  # fmt: skip
    return Comparison(**whole | fields)


def test_every_part_that_differs_has_a_section() -> None:
    titles = [section.title for section in report.sections(comparison())]
    assert titles == ["Tensors", "Other files", "Configuration", "Coverage", "Scales of calibration"]
    nothing = comparison(files=[], configuration=[], coverage=[None, None], scales={})
    assert [section.title for section in report.sections(nothing)] == ["Tensors"]


def test_rows_are_as_wide_as_their_header_and_the_sentence_counts() -> None:
    sections = report.sections(comparison())
    assert all(len(row) == len(section.header) for section in sections for row in section.rows)
    assert sections[0].said.startswith("2 of 6 tensors are equal to the last bit; a has 400 bytes")
    assert "3 have another dtype; 2 of them agree when rounded to BF16" in sections[0].said
    assert sections[0].rows[1][1] == "F32 → BF16"


def test_what_is_no_longer_what_was_sealed_comes_first() -> None:
    altered = Side(name="mine", recipe="demo", key="0" * 64, altered=["model.safetensors"])
    first = report.sections(comparison(a=altered))[0]
    assert (first.title, first.rows) == ("Not what was sealed", [["model.safetensors", "a", "mine"]])


def test_names_are_no_markup() -> None:
    page = report.page(comparison(), report.sections(comparison()))
    assert "- b: the\\|irs (not sealed)" in page
    assert f"- a: mine, recipe demo, key {'0' * 64}" in page


def test_a_ratio_is_shown_where_there_is_one() -> None:
    ratio = Ratio(smallest=0.5, median=1.0, largest=2.0)
    row = report.sections(comparison(tensors=[group(ratio=ratio)]))[0].rows[0]
    assert row[-1] == "0.50..2.00"
