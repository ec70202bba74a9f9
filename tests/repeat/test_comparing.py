"""Counting answers, and finding where they part."""

from proofcard.repeat import comparing
from proofcard.repeat.asking import Answers


def tokens(text: str) -> list[int]:
    return [hash(word) for word in text.split()]


def test_one_answer_is_repeatable() -> None:
    both = Answers(["a b"] * 5)
    usual = comparing.usual(both, both)
    phase = comparing.phase(both, usual, 0.95, tokens)
    assert (phase.requests, phase.distinct, phase.first) == (5, 1, None)
    assert phase.same is not None and phase.same.value == 1 and 0.4 < phase.same.low < 0.5
    assert comparing.finding([phase, phase], 1) == "REPEATABLE"


def test_the_earliest_place_is_named_in_characters_and_tokens() -> None:
    alone = Answers(["one two three"] * 4)
    loaded = Answers(["one two three", "one two four", "one 2 three"])
    usual = comparing.usual(alone, loaded)
    phase = comparing.phase(loaded, usual, 0.95, tokens)
    assert (phase.distinct, phase.first.character, phase.first.token) == (3, 4, 1)
    assert comparing.phase(loaded, usual, 0.95, None).first.token is None
    assert comparing.finding([phase], 3) == "NOT REPEATABLE"
    first, *others = comparing.variants(alone, loaded, usual, tokens)
    assert (first.alone, first.loaded, first.first) == (4, 1, None)
    assert sorted((each.loaded, each.first.token) for each in others) == [(1, 1), (1, 2)]


def test_an_answer_that_ends_early_parts_at_its_end() -> None:
    found = comparing.first_difference("one two", "one two three", tokens)
    assert found is not None and (found.character, found.token) == (7, 2)


def test_what_was_not_answered_shows_nothing() -> None:
    phase = comparing.phase(Answers(["a"], ["HTTP 500"]), "a", 0.95, None)
    assert (phase.requests, phase.failed, phase.first_failure) == (2, 1, "HTTP 500")
    assert comparing.finding([phase], 1) == "NOT SHOWN"
    assert comparing.usual(Answers(), Answers()) is None
