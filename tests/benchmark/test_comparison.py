from proofcard.benchmark.comparison import reasons, table
from proofcard.reports import markdown

ROWS = [
    {"configuration": "attention-backend=flashinfer", "tokens_per_s": {1: 88.4, 64: 600.0}, "doubted": []},
    {"configuration": "attention-backend=fa3", "tokens_per_s": {1: 90.0, 64: 631.0}, "doubted": [64]},
    {
        "configuration": "moe-runner-backend=flashinfer_mxfp4",
        "failed": "sglang ended: 1; it ran out of memory: lower …\n  a log line",
        "refused": False,
    },
    {"configuration": "attention-backend=fa4", "failed": "there is no fa4 here", "refused": True},
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
