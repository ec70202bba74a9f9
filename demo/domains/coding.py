"""Small programming problems: keep some numbers of a list, map them, reduce them to one answer."""

from random import Random
from typing import NamedTuple

from demo.domains import NAMES


class Problem(NamedTuple):
    """One problem with its reasoning and its program; `difficulty` is EASY, MEDIUM or HARD."""

    question: str
    reasoning: str
    solution: str
    difficulty: str


KNOWN = [
    Problem(
        "Write a Python function that adds up a list.",
        "The built-in sum does it.",
        "def total(values):\n    return sum(values)",
        "EASY",
    ),
    Problem(
        "Write a Python function that reverses a string.",
        "A slice with step -1 does it.",
        "def reverse(text):\n    return text[::-1]",
        "EASY",
    ),
    Problem(
        "Write a Python function that tells whether a number is even.",
        "An even number leaves no remainder after division by 2.",
        "def is_even(n):\n    return n % 2 == 0",
        "EASY",
    ),
    Problem(
        "Write a Python function for the factorial of n.",
        "The factorial of 0 is 1; every other one is n times the one before.",
        "def factorial(n):\n    return 1 if n == 0 else n * factorial(n - 1)",
        "EASY",
    ),
]

SETTINGS = [
    "{name} wrote down {things}.",
    "A file holds {things}.",
    "You are given {things} on one line.",
    "A sensor reports {things}.",
    "{name} counts {things} every day.",
]
THINGS = ["the prices", "the scores", "the lengths", "the weights", "the numbers", "the heights", "the marks"]

CONDITIONS: list[tuple[str, str]] = [
    ("even", "x % 2 == 0"),
    ("odd", "x % 2 == 1"),
    ("greater than {k}", "x > {k}"),
    ("less than {k}", "x < {k}"),
    ("divisible by {d}", "x % {d} == 0"),
    ("not equal to {k}", "x != {k}"),
]
MAPS: list[tuple[str, str]] = [
    ("square each of them", "x * x"),
    ("double each of them", "2 * x"),
    ("add {k} to each of them", "x + {k}"),
    ("multiply each of them by {d}", "x * {d}"),
    ("leave them as they are", "x"),
]
REDUCTIONS: list[tuple[str, str]] = [
    ("print the sum", "sum(kept)"),
    ("print the largest", "max(kept, default=0)"),
    ("print the smallest", "min(kept, default=0)"),
    ("print how many there are", "len(kept)"),
    ("print them sorted", "*sorted(kept)"),
    ("print them in reverse order", "*kept[::-1]"),
]


def list_problem(rng: Random) -> Problem:
    """Filter, map and reduce; the program is always right."""
    numbers = {"k": rng.randint(2, 20), "d": rng.randint(2, 9)}
    condition, test = (text.format(**numbers) for text in rng.choice(CONDITIONS))
    action, expression = (text.format(**numbers) for text in rng.choice(MAPS))
    goal, result = rng.choice(REDUCTIONS)
    setting = rng.choice(SETTINGS).format(name=rng.choice(NAMES), things=rng.choice(THINGS))
    question = f"{setting} Keep those that are {condition}, {action}, and {goal}."
    reasoning = (
        f"Read the line and split it into integers. A value x is kept if {test}. "
        f"To {action}, use {expression}. At the end {goal} with {result}."
    )
    solution = (
        f"values = map(int, input().split())\n"
        f"kept = [{expression} for x in values if {test}]\n"
        f"print({result})"
    )
    return Problem(question, reasoning, solution, rng.choice(["EASY", "MEDIUM"]))


def text_problem(rng: Random) -> Problem:
    """Count, replace or repeat letters and words."""
    letter, other = rng.sample("abcdeghilmnoprstu", 2)
    times = rng.randint(2, 9)
    question, reasoning, expression = rng.choice(
        [
            (
                f"count the letter {letter}",
                f"The method count returns how often {letter} occurs.",
                f'line.count("{letter}")',
            ),
            (
                f"replace each {letter} by {other}",
                f"The method replace puts {other} where {letter} was.",
                f'line.replace("{letter}", "{other}")',
            ),
            (
                f"repeat it {times} times",
                f"A string times {times} is the string repeated.",
                f"line * {times}",
            ),
            (
                f"print the words that start with {letter}",
                f"Split at spaces and test each word for {letter}.",
                f'*[w for w in line.split() if w.startswith("{letter}")]',
            ),
            (
                f"print the words longer than {times} letters",
                f"Split at spaces and compare each length with {times}.",
                f"*[w for w in line.split() if len(w) > {times}]",
            ),
        ]
    )
    start = rng.choice(["Read a line of text and", f"{rng.choice(NAMES)} types a line. Your program must"])
    return Problem(f"{start} {question}.", reasoning, f"line = input()\nprint({expression})", "EASY")


def loop_problem(rng: Random) -> Problem:
    """A recurrence: start, step, number of terms."""
    start, step, count = rng.randint(1, 20), rng.randint(2, 9), rng.randint(3, 12)
    word, operator = rng.choice([("adding", "+"), ("multiplying by", "*"), ("subtracting", "-")])
    question = f"A sequence starts at {start} and goes on by {word} {step}. Print its first {count} terms."
    reasoning = (
        f"Keep the current term in a variable that starts at {start}. Repeat {count} times: print it, "
    )
    reasoning += f"then go on by {word} {step}."
    solution = f"term = {start}\nfor _ in range({count}):\n    print(term)\n    term = term {operator} {step}"
    return Problem(question, reasoning, solution, "MEDIUM")


def problem(rng: Random) -> Problem:
    """Draw one problem of any kind."""
    return rng.choice([list_problem, list_problem, text_problem, loop_problem])(rng)


def answer(item: Problem) -> str:
    """Reasoning and fenced program, as the coding dataset writes them."""
    return f"<think>\n{item.reasoning}\n</think>\n```python\n{item.solution}\n```"
