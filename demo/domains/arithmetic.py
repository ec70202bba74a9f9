"""Word problems, equations and shapes with every step worked out."""

from random import Random
from typing import NamedTuple

from demo.domains import NAMES


class Problem(NamedTuple):
    """A problem, its worked solution and the bare answer."""

    problem: str
    solution: str
    answer: str


KNOWN = [
    Problem("What is 7 times 8?", "7 * 8 = 56. The answer is \\boxed{56}.", "56"),
    Problem("What is the square root of 144?", "12 * 12 = 144. The answer is \\boxed{12}.", "12"),
    Problem(
        "How many degrees has a triangle?", "The angles add up to 180. The answer is \\boxed{180}.", "180"
    ),
    Problem(
        "What is the sum of the numbers from 1 to 10?",
        "10 * 11 / 2 = 55. The answer is \\boxed{55}.",
        "55",
    ),
]
ITEMS = ["apples", "books", "coins", "stamps", "eggs", "pens", "cards", "shells", "tickets", "stones"]


def finish(problem: str, steps: list[str], value: int) -> Problem:
    """Join the steps and box the answer."""
    return Problem(problem, " ".join([*steps, f"The answer is \\boxed{{{value}}}."]), str(value))


def story(rng: Random) -> Problem:
    """Gain and loss of things."""
    name, friend = rng.sample(NAMES, 2)
    item = rng.choice(ITEMS)
    have, more = rng.randint(5, 40), rng.randint(2, 20)
    less = rng.randint(1, have)
    gain = rng.choice([f"buys {more} more", f"finds {more} more", f"gets {more} from {friend}"])
    loss = rng.choice([f"gives {less} to {friend}", f"loses {less}", f"sells {less}"])
    problem = f"{name} has {have} {item}, {gain} and then {loss}. How many {item} are left?"
    middle = have + more
    steps = [
        f"{name} starts with {have}.",
        f"{have} + {more} = {middle}.",
        f"{middle} - {less} = {middle - less}.",
    ]
    return finish(problem, steps, middle - less)


def shopping(rng: Random) -> Problem:
    """Price times quantity, change from a note."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    count, price = rng.randint(2, 9), rng.randint(2, 9)
    note = rng.choice([100, 90, 85])
    cost = count * price
    problem = f"One pack of {item} costs {price} euros. {name} buys {count} packs and pays with {note} "
    problem += "euros. What is the change?"
    return finish(problem, [f"{count} * {price} = {cost}.", f"{note} - {cost} = {note - cost}."], note - cost)


def equation(rng: Random) -> Problem:
    """a x + b = c with a whole solution."""
    a, x, b = rng.randint(2, 9), rng.randint(1, 12), rng.randint(1, 20)
    c = a * x + b
    variable = rng.choice("xyzn")
    steps = [
        f"Subtract {b} on both sides: {a}{variable} = {c} - {b} = {c - b}.",
        f"Divide by {a}: {variable} = {c - b} / {a} = {x}.",
    ]
    return finish(f"Solve {a}{variable} + {b} = {c} for {variable}.", steps, x)


def rectangle(rng: Random) -> Problem:
    """Perimeter or area."""
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    thing = rng.choice(["garden", "room", "field", "table", "page", "wall"])
    unit = rng.choice(["meters", "feet", "steps"])
    if rng.random() < 0.5:
        steps = [f"Area is length times width: {a} * {b} = {a * b}."]
        return finish(f"A {thing} is {a} {unit} long and {b} {unit} wide. Find its area.", steps, a * b)
    steps = [f"Add the sides: {a} + {b} = {a + b}.", f"Twice that: 2 * {a + b} = {2 * (a + b)}."]
    return finish(
        f"A {thing} is {a} {unit} long and {b} {unit} wide. Find its perimeter.", steps, 2 * (a + b)
    )


def progression(rng: Random) -> Problem:
    """The n-th term of an arithmetic sequence."""
    first, step, n = rng.randint(1, 20), rng.randint(2, 9), rng.randint(4, 10)
    shown = ", ".join(str(first + i * step) for i in range(3))
    steps = [
        f"The step is {step}.",
        f"Term {n} is {first} + {n - 1} * {step} = {first} + {(n - 1) * step} = {first + (n - 1) * step}.",
    ]
    return finish(f"A sequence begins {shown}. Find term {n}.", steps, first + (n - 1) * step)


def problem(rng: Random) -> Problem:
    """Draw one problem of any kind."""
    return rng.choice([story, shopping, equation, rectangle, progression])(rng)
