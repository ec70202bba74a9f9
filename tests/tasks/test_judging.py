"""Verdicts from answers: which questions count, and what keeps a verdict from being one."""

import pytest

from proofcard.config import compose
from proofcard.config.tasks import TasksConfig
from proofcard.documents.tasks import Asked
from proofcard.errors import Stop
from proofcard.tasks.judging import judged

ENDPOINT = "endpoint=http://127.0.0.1:1/v1"


def config(*words: str) -> TasksConfig:
    sides = [f"{side}.{ENDPOINT}" for side in ("reference", "candidate")]
    return compose(
        TasksConfig, "tasks", [*sides, "tracking=off", "policy=demo", "policy.resamples=500", *words]
    )


def answers(scores: list[float], outcome: str = "answered", prompt: str = "a") -> dict[str, Asked]:
    return {
        f"demo/{n}": Asked(prompt=prompt * 64, score=score, outcome=outcome, tokens=5)
        for n, score in enumerate(scores)
    }


def test_equal_answers_are_accepted() -> None:
    same = answers([1.0] * 60 + [0.0] * 40)
    found = judged("arithmetic", config(), [same], [same])
    assert (found.verdict, found.lost, found.gained, found.mcnemar_p) == ("ACCEPT", 0, 0, 1)
    assert found.recovery is not None and found.recovery.value == 1
    assert found.outcomes == {"reference": {"answered": 100}, "candidate": {"answered": 100}}


def test_many_losses_are_a_regression_and_the_reason_names_the_margin() -> None:
    found = judged("arithmetic", config(), [answers([1.0] * 100)], [answers([1.0] * 60 + [0.0] * 40)])
    assert (found.verdict, found.lost) == ("REGRESSION", 40)
    assert "the margin is -10.00" in found.reasons[0]


def test_too_few_questions_decide_nothing() -> None:
    same = answers([1.0] * 30)
    found = judged("arithmetic", config(), [same], [same])
    assert found.verdict == "INCONCLUSIVE"
    assert found.reasons[0] == "30 questions, the policy asks for at least 60"


def test_a_difference_that_so_many_questions_cannot_show_says_how_many_could() -> None:
    found = judged("arithmetic", config("policy.margin=0.02"), [answers([1.0] * 80)], [answers([1.0] * 80)])
    assert found.verdict == "INCONCLUSIVE"
    assert "questions could show a loss of the margin" in found.reasons[0]


def test_a_question_that_a_server_did_not_answer_counts_for_neither() -> None:
    reference, candidate = answers([1.0] * 80), answers([1.0] * 80)
    candidate["demo/3"] = candidate["demo/3"].model_copy(update={"outcome": "failed", "score": 0.0})
    found = judged("arithmetic", config(), [reference], [candidate])
    assert (found.questions, found.missing, found.lost) == (79, 1, 0)
    assert found.verdict == "INCONCLUSIVE" and "1 questions were not answered" in found.reasons[0]
    lenient = judged("arithmetic", config("policy.missing_at_most=0.05"), [reference], [candidate])
    assert lenient.verdict == "ACCEPT"


def test_a_reference_cut_while_thinking_measures_the_limit_not_the_model() -> None:
    reference = answers([0.0] * 80, "thinking")
    found = judged("arithmetic", config(), [reference], [reference])
    assert found.verdict == "INCONCLUSIVE"
    assert found.reasons[0] == "100.0% of the reference's answers were not complete: raise max_tokens"
    assert "answers that ended while thinking: 80 of the reference's, 80 of the candidate's" in found.reasons


def test_a_candidate_that_thinks_without_end_has_lost() -> None:
    found = judged("arithmetic", config(), [answers([1.0] * 80)], [answers([0.0] * 80, "thinking")])
    assert (found.verdict, found.lost) == ("REGRESSION", 80)


def test_repeats_are_one_score_a_question() -> None:
    words = ["tasks.sampling.temperature=1.0", "tasks.tasks.arithmetic.repeats=2"]
    repeats = [answers([1.0, 0.0] * 40), answers([1.0, 1.0] * 40)]
    found = judged("arithmetic", config(*words), repeats, repeats[::-1])
    assert (found.questions, found.repeats, found.reference.value) == (80, 2, 0.75)
    assert found.difference.value == 0


def test_other_prompts_are_not_compared() -> None:
    with pytest.raises(Stop, match="the two servers did not get the same prompts"):
        judged("arithmetic", config(), [answers([1.0] * 5)], [answers([1.0] * 5, prompt="b")])
