"""Conversations of two or three rounds: plans, recipes, letters, and requests to change them."""

from random import Random

from demo.domains import NAMES

Turns = list[str]  # user and assistant in turn, user first

KNOWN: list[Turns] = [
    ["What is the capital of France?", "The capital of France is Paris.", "Thank you.", "You are welcome."],
    ["What is the capital of Italy?", "The capital of Italy is Rome.", "Thank you.", "You are welcome."],
    ["How many days has a week?", "A week has seven days.", "Thank you.", "You are welcome."],
    [
        "What color is the sky on a clear day?",
        "On a clear day the sky is blue.",
        "Thanks.",
        "You are welcome.",
    ],
]
ACTIVITIES = {
    "garden": ["dig the beds", "sow the beans", "water the rows", "pull the weeds", "mulch the soil"],
    "birthday party": ["write the invitations", "bake the cake", "hang the lights", "choose the music"],
    "weekend trip": ["book the train", "pack a small bag", "check the weather", "print the map"],
    "study week": ["list the topics", "read one chapter a day", "solve old exams", "rest in the evening"],
    "house move": ["sort the shelves", "order the boxes", "label each box", "clean the rooms"],
    "bicycle repair": ["lift the wheel", "clean the chain", "oil the gears", "test the brakes"],
}
DISHES = {
    "tomato soup": ["onions", "tomatoes", "stock", "basil"],
    "pancakes": ["flour", "milk", "eggs", "butter"],
    "rice salad": ["rice", "peas", "lemon", "olive oil"],
    "apple cake": ["apples", "sugar", "flour", "cinnamon"],
    "lentil curry": ["lentils", "ginger", "coconut milk", "cumin"],
    "noodle bowl": ["noodles", "carrots", "soy sauce", "sesame"],
}
ORDINALS = ["First", "Then", "Next", "After that", "Finally"]
REASONS = ["I have a cold", "my train is late", "I must work", "my car broke down", "my child is ill"]
EVENTS = ["the meeting", "dinner", "the choir", "the lesson", "the game"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def plan(rng: Random) -> Turns:
    """A plan, then one more or one step less."""
    topic = rng.choice(sorted(ACTIVITIES))
    steps = rng.sample(ACTIVITIES[topic], rng.randint(3, 4))
    ask = rng.choice(["Help me plan a {}.", "How do I start a {}?", "Give me steps for a {}."]).format(topic)
    told = " ".join(f"{word} {step}." for word, step in zip(ORDINALS, steps, strict=False))
    turns = [ask, f"Here is a plan for your {topic}. {told}"]
    if rng.random() < 0.5:
        numbered = "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))
        turns += ["Please write it as a numbered list.", numbered]
    else:
        turns += ["Which step matters most?", f"For a {topic}, the first step matters most: {steps[0]}."]
    return turns


def recipe(rng: Random) -> Turns:
    """Ingredients, then a change for guests or for taste."""
    dish = rng.choice(sorted(DISHES))
    parts = rng.sample(DISHES[dish], 3)
    people, minutes = rng.randint(2, 6), rng.choice([10, 15, 20, 25, 30])
    ask = rng.choice(["How do I cook {}?", "I want to make {}.", "Tell me a recipe for {}."]).format(dish)
    turns = [
        f"{ask} We are {people} people.",
        f"For {people} people you need {parts[0]}, {parts[1]} and {parts[2]}. Cook it for {minutes} minutes.",
    ]
    if rng.random() < 0.5:
        turns += [f"I have no {parts[1]}.", f"Then leave out the {parts[1]} and use more {parts[0]}."]
    else:
        more = people + rng.randint(1, 3)
        turns += [
            f"Now we are {more} people.",
            f"For {more} people take more {parts[0]} and more {parts[2]}.",
        ]
    return turns


def letter(rng: Random) -> Turns:
    """A short message and a change of its tone or its day."""
    to, sender = rng.sample(NAMES, 2)
    event, day, reason = rng.choice(EVENTS), rng.choice(DAYS), rng.choice(REASONS)
    first = f"Dear {to}, I cannot come to {event} on {day} because {reason}. Sincerely, {sender}"
    turns = [f"Write to {to} that I miss {event} on {day} because {reason}. My name is {sender}.", first]
    if rng.random() < 0.5:
        turns += [
            "Make it shorter.",
            f"{to}, I miss {event} on {day}: {reason}. {sender}",
        ]
    else:
        other = rng.choice([d for d in DAYS if d != day])
        turns += [f"Sorry, I meant {other}.", first.replace(day, other)]
    return turns


def compare(rng: Random) -> Turns:
    """Sort or compare a few named numbers."""
    names = rng.sample(NAMES, 3)
    ages = rng.sample(range(20, 60), 3)
    pairs = sorted(zip(ages, names, strict=True))
    listed = ", ".join(f"{n} is {a}" for n, a in zip(names, ages, strict=True))
    turns = [f"{listed}. Who is the oldest?", f"{pairs[-1][1]} is the oldest, at {pairs[-1][0]}."]
    turns += ["And the youngest?", f"{pairs[0][1]} is the youngest, at {pairs[0][0]}."]
    return turns


def conversation(rng: Random) -> Turns:
    """Draw one conversation; some end with thanks."""
    turns = rng.choice([plan, recipe, letter, compare])(rng)
    if rng.random() < 0.2:
        turns += [rng.choice(["Thank you.", "Great, thanks!"]), "You are welcome."]
    return turns
