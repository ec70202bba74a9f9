"""The runs that go through the layers: the source, every candidate, and two with replayed routes.

With a candidate Q of a model P with experts there are four cells, {P's routes, Q's routes} × {P's
weights, Q's weights}. Two of them are P and Q themselves. In the others every token goes to the experts,
and with the weights, that the other model's routers have chosen for it at that layer: exactly, since a
gate's answer is put in the place of the gate's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from proofcard.evaluate.candidates import Candidate
from proofcard.evaluate.compute import Way

SOURCE = "source"


@dataclass(frozen=True)
class Stream:
    """One run: whose weights, how it rounds, and whose routes it takes, None for its own."""

    name: str
    checkpoint: bool
    way: Way
    routes_of: str | None = None


def streams(candidates: Sequence[Candidate], cells: bool) -> list[Stream]:
    """The source first, then the candidates, then the two cells of the last one."""
    found = [Stream(SOURCE, False, Way())]
    found += [Stream(each.name, True, way(each)) for each in candidates]
    if cells:
        last = candidates[-1]
        found.append(Stream(f"{last.name}, routes of source", True, way(last), SOURCE))
        found.append(Stream(f"source, routes of {last.name}", False, Way(), last.name))
    return found


def way(candidate: Candidate) -> Way:
    """How a candidate rounds."""
    return Way(candidate.activations, candidate.kv)


def slug(name: str) -> str:
    """A stream's name as MLflow takes it in the name of a metric."""
    return name.replace("+", "-").replace(",", "")
