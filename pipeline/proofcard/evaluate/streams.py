"""The runs that go through the layers: the source, every candidate, and two with replayed routes.

With a candidate Q of a model P with experts there are four cells, {P's routes, Q's routes} × {P's
weights, Q's weights}. Two of them are P and Q themselves. In the others every token goes to the experts,
and with the weights, that the other model's routers have chosen for it at that layer: exactly, since a
gate's output is replaced by the other's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from proofcard.evaluate.candidates import Candidate
from proofcard.evaluate.compute import Precision

SOURCE = "source"


@dataclass(frozen=True)
class Stream:
    """One run: whose weights, how it rounds, and whose routes it takes, None for its own."""

    name: str
    checkpoint: bool
    precision: Precision
    routes_of: str | None = None


def streams(candidates: Sequence[Candidate], cells: bool) -> list[Stream]:
    """The source first, then the candidates, then the two cells of the last one."""
    runs = [Stream(SOURCE, False, Precision())]
    runs += [Stream(each.name, True, precision(each)) for each in candidates]
    if cells:
        last = candidates[-1]
        runs.append(Stream(f"{last.name}, routes of source", True, precision(last), SOURCE))
        runs.append(Stream(f"source, routes of {last.name}", False, Precision(), last.name))
    return runs


def precision(candidate: Candidate) -> Precision:
    """How a candidate rounds."""
    return Precision(candidate.activations, candidate.kv)


def slug(name: str) -> str:
    """A stream's name as MLflow takes it in the name of a metric."""
    return name.replace("+", "-").replace(",", "")
