"""Known answers: right ones pass, wrong ones and token salad do not, and a model's code can do no harm."""

import re

import pytest

from proofcard.config import ServeConfig, compose
from proofcard.config.serving import Question, Truth
from proofcard.errors import Stop
from proofcard.serve.truth import Verdict, Verdicts, questions
from proofcard.serve.truth.ask import judge
from proofcard.serve.truth.sandbox import code_in, trial

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


def test_token_salad_answers_nothing_and_is_not_trusted(card: dict[str, Question]):
    given = [Verdict(name, asked.prompt, SALAD, *judge(asked, SALAD)) for name, asked in card.items()]
    found = Verdicts("card", 0.8, tuple(given))
    assert found.passed == 0 and not found.sound
    with pytest.raises(
        Stop, match=r"0 of 5 known answers right.*go on all the same with truth\.required=false"
    ):
        found.require()


def test_the_demos_questions_are_the_models_known_answers():
    asked = questions(truth("demo"))
    assert len(asked) == 19
    assert asked["open_math_reasoning 5"].contains == "\\boxed{56}"
    assert asked["llama_nemotron 17"].system is not None


def test_the_share_that_must_be_right_is_declared():
    given = [Verdict(str(number), "", "", number < 4, "") for number in range(5)]
    assert Verdicts("x", 0.8, tuple(given)).sound
    assert not Verdicts("x", 0.81, tuple(given)).sound


def test_the_first_block_that_defines_something_is_the_code():
    assert code_in("```sh\npip install x\n```\n```python\ndef f(): pass\n```") == "def f(): pass\n"
    assert code_in("def f():\n    return 1") == "def f():\n    return 1"
    assert code_in("I cannot do that.") is None


HARM = {
    "a connection": ("import socket; socket.create_connection(('192.0.2.1', 80))", "socket"),
    "another program": ("import subprocess; subprocess.run(['true'])", "may not be imported|refused"),
    "a shell": ("import os; os.system('true')", r"os\.system is refused"),
    "a fork": ("import os; os.fork()", r"os\.fork is refused"),
    "foreign functions": ("import ctypes; ctypes.CDLL(None)", "may not be imported"),
    "reading": ("open('/etc/passwd').read()", "no file may be opened"),
    "writing": ("open('left', 'w').write('x')", "no file may be opened"),
    "looking around": ("import os; os.listdir('/')", r"os\.listdir is refused"),
    "memory": ("a = [0] * 10**9", "MemoryError"),
    "a lie": ("import sys; sys.exit(0)", "SystemExit"),
    "a quick end": ("import os; os._exit(0)", "ended before its test"),
}


@pytest.mark.parametrize("what", HARM)
def test_a_models_code_can_do_no_harm(what: str):
    code, why = HARM[what]
    passed, said = trial(code, "pass")
    assert not passed and re.search(why, said), said


def test_a_models_code_sees_no_environment_and_no_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    passed, why = trial("import os", "assert 'HF_TOKEN' not in os.environ")
    assert passed
    # where the kernel grants no namespace the hook of the tests above is all there is, as the verdict says
    assert why in ("its code passes, without a network", "its code passes, sockets refused by Python alone")


def test_the_assertion_that_fails_is_told():
    assert trial("def f(x): return x", "assert f(1) == 1\nassert f(1) == 2") == (
        False,
        "its code fails: assert f(1) == 2",
    )


def test_a_models_code_that_never_ends_is_stopped():
    assert trial("while True: pass", "", seconds=1.0) == (False, "its code was stopped after 1 s")
