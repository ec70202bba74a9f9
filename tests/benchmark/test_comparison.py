from typing import Any

from proofcard.benchmark.comparison import reasons, table
from proofcard.documents.benchmark import Rate, Row
from proofcard.reports import markdown


def row(configuration: str, **fields: Any) -> Row:
    return Row(configuration=configuration, overrides=[], **fields)


def rates(one: float, most: float) -> list[Rate]:
    return [Rate(users=1, tokens_per_s=one), Rate(users=64, tokens_per_s=most)]


ROWS = [
    row("attention-backend=flashinfer", rates=rates(88.4, 600.0)),
    row("attention-backend=fa3", rates=rates(90.0, 631.0), doubted=[64]),
    row(
        "moe-runner-backend=flashinfer_mxfp4",
        failed="sglang ended: 1; it ran out of memory: lower …\n  a log line",
    ),
    row("attention-backend=fa4", failed="there is no fa4 here", refused=True),
]


def test_the_card_s_table_of_backends_with_failures_as_rows() -> None:
    assert table(ROWS).rows == [
        ["attention-backend=flashinfer", "88.4 at 1", "600.0 at 64", "", ""],
        ["attention-backend=fa3", "90.0 at 1", "631.0 at 64", "+1.8%", "doubted at 64"],
        ["moe-runner-backend=flashinfer_mxfp4", "–", "–", "–", "out of memory"],
        ["attention-backend=fa4", "–", "–", "–", "refused"],
    ]


def test_why_a_configuration_has_no_figures_is_told_in_its_own_words() -> None:
    page = "\n".join(markdown(reasons(ROWS)))
    assert "| attention-backend=fa4 | there is no fa4 here |" in page
    assert "| moe-runner-backend=flashinfer_mxfp4 | sglang ended: 1; it ran out of memory: lower … |" in page
    assert reasons(ROWS[:2]) == []
