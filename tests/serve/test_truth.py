"""Known answers: right ones pass, wrong ones and token salad do not. What code may not do: tests/sandbox."""

import time

import pytest

from proofcard import sandbox
from proofcard.config import ServeConfig, compose
from proofcard.config.serving import Call, Calls, Numbers, Question, Truth
from proofcard.documents.serving import Verdict
from proofcard.errors import Stop, Usage
from proofcard.sandbox.protections import Protections
from proofcard.serve.truth import prepare, questions, require
from proofcard.serve.truth.ask import counted, judge
from proofcard.serve.truth.code import code_in, trial

COUNTRIES = "1. France - Paris\n2. Peru - Lima\n3. Japan - Tokyo\n4. Kenya - Nairobi\n5. Cuba - Havana"
RIGHT = {
    "multiplication": "25 × 37 = 25 · 40 − 25 · 3 = 1000 − 75.\n\n**925**",
    "palindrome": """Here it is:

```python
def is_palindrome(text: str) -> bool:
    kept = [c.lower() for c in text if c.isalnum()]
    return kept == kept[::-1]
```

```python
print(is_palindrome("level"))
```""",
    "binary_search": """```python
from typing import List

def binary_search(values: List[int], target: int) -> int:
    low, high = 0, len(values) - 1
    while low <= high:
        middle = low + (high - low) // 2
        if values[middle] == target:
            return middle
        if values[middle] < target:
            low = middle + 1
        else:
            high = middle - 1
    return -1
```""",
    "merge_sort": """~~~py
def merge_sort(values):
    if len(values) < 2:
        return list(values)
    half = len(values) // 2
    a, b = merge_sort(values[:half]), merge_sort(values[half:])
    merged = []
    while a and b:
        merged.append(a.pop(0) if a[0] <= b[0] else b.pop(0))
    return merged + a + b
~~~""",
    "five_countries": COUNTRIES,
}
WRONG = {
    "multiplication": "25 × 37 is about 935.",
    "palindrome": "```python\ndef is_palindrome(text):\n    return text == text[::-1]\n```",
    "binary_search": "```python\ndef binary_search(values, target):\n"
    "    return next((i for i in range(len(values)) if values[i] == target), -1)\n```",
    "merge_sort": "```python\ndef merge_sort(values):\n    return sorted(set(values))\n```",
    "five_countries": f"Sure! {COUNTRIES}",
}
SALAD = "the the ]]) von 的 def 925 return ```"


def truth(option: str) -> Truth:
    return compose(ServeConfig, "serve", ["checkpoint=x", f"truth={option}"]).truth


@pytest.fixture(scope="module")
def card() -> dict[str, Question]:
    return questions(truth("card"))


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_passes_and_a_wrong_one_does_not(card: dict[str, Question], name: str):
    assert judge(card[name], RIGHT[name])[0], judge(card[name], RIGHT[name])[1]
    assert not judge(card[name], WRONG[name])[0]


def verdict(right: bool, why: str, name: str = "x") -> Verdict:
    return Verdict(name=name, prompt="", answer="", right=right, why=why)


def test_token_salad_answers_nothing_and_is_not_trusted(card: dict[str, Question]):
    found = counted("card", 0.8, [verdict(*judge(asked, SALAD), name=name) for name, asked in card.items()])
    assert found.passed == 0 and not found.sound
    with pytest.raises(
        Stop, match=r"0 of 5 known answers right.*go on all the same with truth\.required=false"
    ):
        require(found)


def test_the_demos_questions_are_the_models_known_answers():
    asked = questions(truth("demo"))
    assert len(asked) == 19
    assert asked["open_math_reasoning 5"].contains == "\\boxed{56}"
    assert asked["llama_nemotron 17"].system is not None


def test_the_share_that_must_be_right_is_declared():
    given = [verdict(number < 4, "") for number in range(5)]
    assert counted("x", 0.8, given).sound
    assert not counted("x", 0.81, given).sound


def test_the_first_block_that_defines_something_is_the_code():
    assert code_in("```sh\npip install x\n```\n```python\ndef f(): pass\n```") == "def f(): pass\n"
    assert code_in("def f():\n    return 1") == "def f():\n    return 1"
    assert code_in("I cannot do that.") is None


DOUBLE = Calls(function="f", expected=(Call(given=(1,), returns=2), Call(given=(5,), returns=10)))


def test_the_call_that_fails_is_told():
    assert trial("def f(x): return 2", DOUBLE) == (False, "its code fails: f(5) returns 2, not 10")
    assert trial("def g(x): return 2", DOUBLE) == (False, "its code fails: it defines no f")
    assert trial("def f(x): return x / 0", DOUBLE) == (
        False,
        "its code fails: ZeroDivisionError: division by zero",
    )
    assert trial("def f(x): return 2 * x", DOUBLE) == (True, "its code passes")


def test_true_is_not_one_and_a_tuple_is_no_list():
    one = Calls(function="f", expected=(Call(given=(), returns=[1]),))
    assert trial("def f(): return [1]", one)[0]
    assert trial("def f(): return [True]", one)[1] == "its code fails: f() returns [true], not [1]"
    assert trial("def f(): return (1,)", one)[1] == "its code fails: f() returns a tuple"


def test_elements_are_counted_where_they_are_given():
    """Twenty reads, by index, by slice or by going through: one more and the code has failed."""
    few = Calls(function="f", expected=(Call(given=(Numbers(count=100, step=3, reads=20),), returns=57),))
    assert trial("def f(v): return [v[n] for n in range(20)][-1]", few)[0]
    assert trial("def f(v): return v[:20][-1]", few)[0]
    assert trial("def f(v): return v[-81]", few)[0]
    assert trial("import bisect\ndef f(v): return v[bisect.bisect_left(v, 57)]", few)[0]
    for code in (
        "def f(v): return v[:21][19]", "def f(v): return list(v)[19]", "def f(v): return max(v)",
        "def f(v): return 57 if 58 in v else 57", "def f(v): return v[v.index(75)]",
        "import json, os\ndef f(v):\n    for n in range(99): v[n]",
    ):  # fmt: skip
        what = "its code fails: f(list of 100 numbers) reads more than 20 elements"
        assert trial(code, few) == (False, what), code
    assert trial("def f(v): return v[100]", few)[1] == "its code fails: IndexError: list index out of range"


def test_patterns_take_no_time_on_long_answers(card: dict[str, Question]):
    long = ["\n" * 10**5, " " * 10**5, "1. " + "a - " * 30000, "1. a - b\n" * 10**4, "925 " * 30000 + "x"]
    begun = time.monotonic()
    for question in card.values():
        for answer in long:
            assert not judge(question, answer)[0]
    assert time.monotonic() - begun < 5


def test_code_is_asked_for_only_where_it_can_be_confined(monkeypatch: pytest.MonkeyPatch):
    here = Protections(("read files",), ("landlock",), ("the kernel has no Landlock",))
    monkeypatch.setattr(sandbox.protections, "protections", lambda: here)
    prepare(truth("demo"))  # asks for no code
    with pytest.raises(
        Usage, match=r"it could read files \(the kernel has no Landlock\).*truth\.sandbox=weak"
    ):
        prepare(truth("card"))
    prepare(truth("card").model_copy(update={"sandbox": "weak"}))
