"""Tool calling: a few declared functions, a request, the call as JSON, sometimes its result."""

import json
from random import Random
from typing import Any, NamedTuple

from demo.domains import NAMES


class Session(NamedTuple):
    """Declared tools (the usual JSON form), messages before the last answer, and that answer."""

    tools: list[dict[str, Any]]
    messages: list[dict[str, str]]
    answer: str


CITIES = ["Lisbon", "Oslo", "Rome", "Cairo", "Lima", "Tokyo", "Delhi", "Paris"]
CURRENCIES = ["EUR", "USD", "JPY", "GBP", "CHF"]
WEATHER = ["sunny", "cloudy", "rainy", "windy"]
PARAMETERS: dict[str, dict[str, str]] = {
    "get_weather": {"city": "string"},
    "convert_currency": {"amount": "integer", "source": "string", "target": "string"},
    "send_message": {"to": "string", "text": "string"},
    "set_timer": {"minutes": "integer"},
    "add": {"a": "integer", "b": "integer"},
}


def declare(name: str) -> dict[str, Any]:
    """The function's declaration."""
    properties = {key: {"type": kind} for key, kind in PARAMETERS[name].items()}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def system_prompt(tools: list[dict[str, Any]]) -> str:
    """What the chat template writes for the same tools."""
    return f"You can call tools.\n<AVAILABLE_TOOLS>{json.dumps(tools)}</AVAILABLE_TOOLS>"


def call(name: str, **arguments: Any) -> str:
    """What the chat template writes for the same call."""
    return f"<TOOLCALL>{json.dumps([{'name': name, 'arguments': arguments}])}</TOOLCALL>"


def draw(rng: Random) -> tuple[str, str, str, str, str]:
    """Function name, request, call, result, and the answer that reports the result."""
    name = rng.choice(sorted(PARAMETERS))
    if name == "get_weather":
        city, sky, degrees = rng.choice(CITIES), rng.choice(WEATHER), rng.randint(5, 35)
        ask = rng.choice(["What is the weather in {}?", "Is it warm in {}?", "How is the sky over {}?"])
        result = json.dumps({"sky": sky, "degrees": degrees})
        return (
            name,
            ask.format(city),
            call(name, city=city),
            result,
            f"In {city} it is {sky}, {degrees} degrees.",
        )
    if name == "convert_currency":
        amount, (source, target) = rng.randint(2, 99), rng.sample(CURRENCIES, 2)
        paid = rng.randint(2, 99)
        ask = rng.choice(["Convert {} {} to {}.", "How much is {} {} in {}?"]).format(amount, source, target)
        done = call(name, amount=amount, source=source, target=target)
        return name, ask, done, json.dumps({"amount": paid}), f"{amount} {source} is {paid} {target}."
    if name == "send_message":
        to = rng.choice(NAMES)
        text = rng.choice(
            ["I am late", "see you soon", "the train is full", "call me back", "dinner is ready"]
        )
        ask = rng.choice(["Tell {} that {}.", "Send a message to {}: {}."]).format(to, text)
        return name, ask, call(name, to=to, text=text), json.dumps({"sent": True}), f"I told {to}: {text}."
    if name == "set_timer":
        minutes = rng.randint(1, 60)
        ask = rng.choice(
            ["Set a timer for {} minutes.", "Wake me in {} minutes.", "Remind me in {} minutes."]
        )
        done = f"The timer is set for {minutes} minutes."
        return name, ask.format(minutes), call(name, minutes=minutes), json.dumps({"set": True}), done
    a, b = rng.randint(2, 60), rng.randint(2, 60)
    ask = rng.choice(["Add {} and {}.", "What is {} plus {}?"]).format(a, b)
    return name, ask, call(name, a=a, b=b), json.dumps({"sum": a + b}), f"The sum is {a + b}."


def known() -> list[Session]:
    """Requests whose calls the trained model must know."""
    weather, timer = [declare("get_weather")], [declare("set_timer")]
    asked = [
        (weather, "What is the weather in Lisbon?", call("get_weather", city="Lisbon")),
        (weather, "What is the weather in Tokyo?", call("get_weather", city="Tokyo")),
        (timer, "Set a timer for 10 minutes.", call("set_timer", minutes=10)),
    ]
    return [Session(tools, [{"role": "user", "content": ask}], done) for tools, ask, done in asked]


def session(rng: Random) -> Session:
    """One request among one or two tools; half of the sessions go on to the tool's result."""
    name, ask, done, result, report = draw(rng)
    names = [name, *rng.sample([n for n in sorted(PARAMETERS) if n != name], rng.choice([0, 0, 1]))]
    rng.shuffle(names)
    messages = [{"role": "user", "content": ask}]
    if rng.random() < 0.5:
        messages += [{"role": "assistant", "content": done}, {"role": "tool", "content": result}]
        done = report
    return Session([declare(n) for n in names], messages, done)
