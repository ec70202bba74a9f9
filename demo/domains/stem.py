"""Science questions: looked-up facts and one-formula computations."""

from random import Random
from typing import NamedTuple


class Exchange(NamedTuple):
    """A question, the thought behind the answer and the answer itself."""

    question: str
    thought: str
    answer: str


KNOWN = [
    Exchange("What is the chemical symbol of gold?", "Gold is aurum in Latin.", "The symbol of gold is Au."),
    Exchange("Which planet is closest to the sun?", "The order starts with Mercury.", "It is Mercury."),
    Exchange(
        "What is the chemical formula of water?",
        "Water has two hydrogen atoms and one oxygen atom.",
        "The formula is H2O.",
    ),
    Exchange("What force pulls objects to the ground?", "Masses attract each other.", "It is gravity."),
]
ELEMENTS = {
    "hydrogen": ("H", 1), "helium": ("He", 2), "carbon": ("C", 6), "nitrogen": ("N", 7),
    "oxygen": ("O", 8), "neon": ("Ne", 10), "sodium": ("Na", 11), "iron": ("Fe", 26),
    "copper": ("Cu", 29), "silver": ("Ag", 47), "tin": ("Sn", 50), "lead": ("Pb", 82),
}  # fmt: skip
FORMULAS = [
    ("speed", "distance of {a} meters in {b} seconds", "distance / time", "m/s", "/"),
    ("density", "mass of {a} kilograms in {b} liters", "mass / volume", "kg/l", "/"),
    ("voltage", "current of {b} amperes through {c} ohms", "current * resistance", "V", "*"),
    ("force", "mass of {b} kilograms accelerated at {c} m/s2", "mass * acceleration", "N", "*"),
    ("work", "force of {b} newtons over {c} meters", "force * distance", "J", "*"),
]
LEVELS = ["cell", "tissue", "organ", "organism", "population", "ecosystem"]
SCALES = [("kilometers", "meters", 1000), ("hours", "minutes", 60), ("minutes", "seconds", 60),
          ("meters", "centimeters", 100), ("kilograms", "grams", 1000), ("days", "hours", 24)]  # fmt: skip


def element(rng: Random) -> Exchange:
    """Symbol or atomic number."""
    name = rng.choice(sorted(ELEMENTS))
    symbol, number = ELEMENTS[name]
    if rng.random() < 0.5:
        ask = rng.choice([f"What is the symbol of {name}?", f"Give the chemical symbol for {name}."])
        return Exchange(
            ask, f"In the periodic table {name} is {symbol}.", f"The symbol of {name} is {symbol}."
        )
    ask = rng.choice([f"How many protons has {name}?", f"What is the atomic number of {name}?"])
    return Exchange(ask, f"{name} is element {number}.", f"The atomic number of {name} is {number}.")


def formula(rng: Random) -> Exchange:
    """A quantity from two others; quotients come out whole."""
    quantity, setting, rule, unit, operator = rng.choice(FORMULAS)
    b, c = rng.randint(2, 12), rng.randint(2, 12)
    a = b * c
    left, right, value = (a, b, c) if operator == "/" else (b, c, a)
    question = f"Find the {quantity} for a {setting.format(a=a, b=b, c=c)}."
    thought = f"{quantity} = {rule} = {left} {operator} {right} = {value}."
    return Exchange(question, thought, f"The {quantity} is {value} {unit}.")


def conversion(rng: Random) -> Exchange:
    """A larger unit into a smaller one."""
    large, small, factor = rng.choice(SCALES)
    count = rng.randint(2, 12)
    thought = f"One of the {large} is {factor} {small}, so {count} * {factor} = {count * factor}."
    return Exchange(f"Convert {count} {large} to {small}.", thought, f"It is {count * factor} {small}.")


def order(rng: Random) -> Exchange:
    """Levels of organisation: which one is larger."""
    first, second = rng.sample(LEVELS, 2)
    larger = max(first, second, key=LEVELS.index)
    question = rng.choice(["Which is larger, {} or {}?", "Compare {} and {}: which contains the other?"])
    thought = f"The order is {', '.join(LEVELS)}."
    return Exchange(question.format(first, second), thought, f"The {larger} is the larger one.")


def exchange(rng: Random) -> Exchange:
    """Draw one exchange of any kind."""
    return rng.choice([element, formula, formula, conversion, order])(rng)
