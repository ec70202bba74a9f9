"""Which of two checkpoints is closer to their source, told in a sentence and three tables."""

from proofcard.documents.comparison import Closeness, Pair
from proofcard.reports import Section, percent

_LISTED = 20  # linears with the largest difference between both errors
_HEADER = ["", "codes", "> 1 step", "a to b"]
_ERRORS = ["a", "b"]


def sections(told: Closeness) -> list[Section]:
    """The answer with the kinds of linears, then layers, then single linears, an expert's among them."""
    header = _HEADER + (_ERRORS if told.closer else [])
    found = [
        Section("Weights after dequantization", _answer(told), header, [_row(each) for each in told.kinds])
    ]
    if len(told.layers) > 1:
        found.append(Section("By layer", "The same by layer.", header, [_row(each) for each in told.layers]))
    apart = sorted(told.linears, key=_apart, reverse=True)[:_LISTED]
    if apart and _apart(apart[0]) > 0:
        said = f"The {len(apart)} linears in which both are furthest apart; comparison.json has all of them."
        found.append(Section("By linear", said, header, [_row(each) for each in apart]))
    return found


def _answer(told: Closeness) -> str:
    total = told.total
    said = ""
    if told.closer is not None and total.error_a is not None and total.error_b is not None:
        errors = [f"{error / (total.energy or 1):.6g}" for error in (total.error_a, total.error_b)]
        if total.error_a == total.error_b:
            said = f"Both are equally close to the source: relative squared error {errors[0]}. "
        else:
            first = total.error_a > total.error_b
            said = (
                f"{'ba'[not first]} is closer to the source: relative squared error {errors[first]} against "
                f"{errors[not first]}. "
            )
        said += (
            f"a has the smaller error in {told.closer[0]:,} matrices, b in {told.closer[1]:,}, neither in "
            f"{told.closer[2]:,}. "
        )
    said += f"{total.differ:,} of {total.codes:,} codes differ. "
    for side in told.folded:
        said += (
            f"{side} holds factors outside of its weights (AWQ or SVDQuant): what is said of it here is of "
            "its weights alone, and no measure of its closeness. "
        )
    said += "".join(f"{mapping}. " for mapping in told.mappings)
    columns = (
        "Columns: the share of codes that differ, and by more than one step; the squared distance of a and b"
    )
    said += f"{columns}, of a and of the source, and of b and of the source, over the source's own squares."
    return said if told.closer is not None else said.partition("Columns")[0] + f"{columns}."


def _row(pair: Pair) -> list[str]:
    name = f"{pair.name} ({pair.linears})" if pair.linears > 1 else pair.name
    cells = [
        name,
        percent(pair.differ / pair.codes) if pair.codes else "–",
        percent(sum(pair.steps[1:]) / pair.codes) if pair.codes else "–",
        _relative(pair.between, pair.energy),
    ]
    if pair.error_a is not None and pair.error_b is not None:
        cells += [_relative(pair.error_a, pair.energy), _relative(pair.error_b, pair.energy)]
    return cells


def _relative(error: float, energy: float | None) -> str:
    return f"{100 * error / energy:.3g}%" if energy else f"{error:.3g}"


def _apart(pair: Pair) -> float:
    if pair.error_a is None or pair.error_b is None or not pair.energy:
        return pair.between
    return abs(pair.error_a - pair.error_b) / pair.energy
