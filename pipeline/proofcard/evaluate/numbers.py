"""From sums and positions to the numbers of the document, each with its interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofcard.documents import evaluation as documents
from proofcard.evaluate.candidates import Step
from proofcard.evaluate.divergence import FIELDS
from proofcard.evaluate.intervals import Estimate, Pooled, Values, bootstrap

Taken = NDArray[np.int64]
_KL_SHARES = {"kl_median": 0.5, "kl_p95": 0.95, "kl_p99": 0.99, "kl_p999": 0.999, "kl_max": 1.0}
_DELTA_SHARES = {
    "delta_p_min": 0.0, "delta_p_p001": 0.001, "delta_p_p01": 0.01, "delta_p_p05": 0.05, "delta_p_p10": 0.10,
    "delta_p_p25": 0.25, "delta_p_median": 0.50, "delta_p_p75": 0.75, "delta_p_p90": 0.90,
    "delta_p_p95": 0.95, "delta_p_p99": 0.99, "delta_p_p999": 0.999, "delta_p_max": 1.0,
}  # fmt: skip
NAMES = (
    "kl_mean", *_KL_SHARES, "js_mean", "perplexity_source", "perplexity", "perplexity_ratio", "same_top",
    "delta_p_mean", "delta_p_rms", *_DELTA_SHARES,
)  # fmt: skip
"""Numbers of a `Divergence`, in their order."""


@dataclass(frozen=True)
class Results:
    """The results of a pass: `sums` of every layer, `values` [streams, FIELDS, positions].

    `owner` [positions] is the document of each position, `names` its datasets' in the order of documents.
    """

    sums: list[dict[str, NDArray[np.float64]]]
    values: NDArray[np.float64]
    owner: NDArray[np.int64]
    names: tuple[str, ...]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Draws:
    """How often documents are drawn, and by which seed."""

    resamples: int
    seed: int

    def of(self, statistic: Any, documents: int) -> list[documents.Estimate]:
        """`intervals.bootstrap`, as the document has it."""
        return [_estimate(each) for each in self.raw(statistic, documents)]

    def raw(self, statistic: Any, documents: int) -> list[Estimate]:
        """`intervals.bootstrap`: NaN where there is no number."""
        return bootstrap(statistic, documents, self.resamples, self.seed)


def divergences(results: Results, stream: int, draws: Draws) -> dict[str | None, documents.Divergence]:
    """Of one stream by dataset, and under None of all documents."""
    groups: dict[str | None, Taken] = {None: np.arange(len(results.names))}
    for name in dict.fromkeys(results.names):
        groups[name] = np.flatnonzero(np.array(results.names) == name)
    return {name: _divergence(results, stream, chosen, draws) for name, chosen in groups.items()}


def _divergence(results: Results, stream: int, chosen: Taken, draws: Draws) -> documents.Divergence:
    inside = np.isin(results.owner, chosen)
    owner = np.searchsorted(chosen, results.owner[inside])
    pooled = {
        name: Pooled(results.values[stream, place, inside], owner, len(chosen))
        for place, name in enumerate(FIELDS)
    }
    square = Pooled(results.values[stream, FIELDS.index("delta_p"), inside] ** 2, owner, len(chosen))

    def statistic(taken: Taken) -> Values:
        losses = [pooled[name].mean(taken) for name in ("reference_nll", "candidate_nll")]
        return np.array(
            [
                pooled["kl"].mean(taken),
                *pooled["kl"].quantiles(taken, list(_KL_SHARES.values())),
                pooled["js"].mean(taken),
                np.exp(losses[0]),
                np.exp(losses[1]),
                np.exp(losses[1] - losses[0]),
                pooled["same"].mean(taken),
                pooled["delta_p"].mean(taken),
                np.sqrt(square.mean(taken)),
                *pooled["delta_p"].quantiles(taken, list(_DELTA_SHARES.values())),
            ]
        )

    estimates = draws.of(statistic, len(chosen))
    return documents.Divergence(
        documents=len(chosen), positions=int(inside.sum()), numbers=dict(zip(NAMES, estimates, strict=True))
    )


def costs(
    results: Results, steps: Sequence[Step], streams: Sequence[str], draws: Draws
) -> list[documents.Cost]:
    """The difference that each step makes to the mean divergence, over the same drawn documents."""
    kl = FIELDS.index("kl")
    pooled = [Pooled(values[kl], results.owner, len(results.names)) for values in results.values]
    place = {name: number for number, name in enumerate(streams)}

    def statistic(taken: Taken) -> Values:
        means = [each.mean(taken) for each in pooled]
        return np.array(
            [means[place[s.after]] - (means[place[s.before]] if s.before is not None else 0.0) for s in steps]
        )

    if not steps:
        return []
    estimates = draws.of(statistic, len(results.names))
    return [
        documents.Cost(cost=step.cost, before=step.before, after=step.after, kl_mean=estimate)
        for step, estimate in zip(steps, estimates, strict=True)
    ]


def layers(
    results: Results, streams: Sequence[str], candidates: int, blocks: Sequence[Sequence[str]], draws: Draws
) -> list[documents.Layer]:
    """Relative errors of every layer's output, what each adds by itself, and how its routers agree.

    `streams` names those beside the source, the first `candidates` of which have routes of their own;
    `blocks` are the names of each layer's mixtures of experts.
    """
    error = np.stack([sums["error"] for sums in results.sums])  # [layers, streams, documents]
    local, norm = (np.stack([sums[name] for sums in results.sums]) for name in ("local", "norm"))
    routes = [
        np.stack([sums["overlap"], sums["moved"]]) for sums in results.sums
    ]  # [2, candidates, blocks, documents]

    def statistic(taken: Taken) -> Values:
        whole = norm @ taken
        alone = local @ taken / whole
        shares = alone / max(alone.sum(), np.finfo(float).tiny)
        tokens = (results.tokens * taken).sum()
        parts = [np.sqrt(error @ taken / whole[:, None]).ravel(), np.sqrt(alone), shares]
        return np.concatenate([*parts, *((each @ taken / tokens).ravel() for each in routes)])

    estimates = iter(draws.raw(statistic, len(results.names)))
    errors = [{name: _estimate(next(estimates)) for name in streams} for _ in results.sums]
    locals_ = [_estimate(next(estimates)) for _ in results.sums]
    shares = [_estimate(next(estimates)) for _ in results.sums]
    made = []
    for layer, names in enumerate(blocks):
        before = errors[layer - 1] if layer else {}
        made.append(
            documents.Layer(
                layer=layer,
                error=errors[layer],
                growth={name: _growth(before.get(name), errors[layer][name]) for name in streams},
                local=locals_[layer],
                share=shares[layer],
                blocks=_blocks(names, streams[:candidates], estimates),
            )
        )
    return made


def _blocks(
    names: Sequence[str], streams: Sequence[str], estimates: Iterator[Estimate]
) -> list[documents.Block]:
    """The blocks of one layer, from estimates in the order [2, candidates, blocks]."""
    table = [[[next(estimates) for _ in names] for _ in streams] for _ in range(2)]
    made = []
    for place, name in enumerate(names):
        both = [{stream: row[place] for stream, row in zip(streams, rows, strict=True)} for rows in table]
        known = all(np.isfinite(each.value) for part in both for each in part.values())
        overlap, moved = (
            [{stream: _estimate(each) for stream, each in part.items()} for part in both]
            if known
            else (None, None)
        )
        made.append(documents.Block(block=name, overlap=overlap, moved=moved))
    return made


def experts(results: Results, names: Sequence[Sequence[str]], draws: Draws) -> list[documents.Expert]:
    """Every expert of every layer, in the model's order, over the same drawn documents."""
    tables = [layer["experts"] for layer in results.sums]  # [3, experts, documents] each
    whole = sum((table[0].sum(axis=0) for table in tables), np.zeros(len(results.names)))
    made = []
    for layer, (experts_of, (errors, norms, rows)) in enumerate(zip(names, tables, strict=True)):
        if not experts_of:
            continue
        estimates = draws.raw(partial(_experts, errors, norms, whole), len(results.names))
        relative, shares = estimates[: len(experts_of)], estimates[len(experts_of) :]
        made += [
            documents.Expert(
                layer=layer, expert=name, rows=int(count), share=_estimate(share),
                error=_estimate(error) if np.isfinite(error.value) else None,
            )
            for name, count, error, share in zip(experts_of, rows.sum(axis=-1), relative, shares, strict=True)
        ]  # fmt: skip
    return made


def _experts(errors: Values, norms: Values, whole: Values, taken: Taken) -> Values:
    """Relative errors of a layer's experts, NaN without rows, then their shares of `whole`."""
    of_experts, every = errors @ taken, max(float(whole @ taken), np.finfo(float).tiny)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate([np.sqrt(of_experts / (norms @ taken)), of_experts / every])


def _growth(before: documents.Estimate | None, after: documents.Estimate) -> float | None:
    return after.value / before.value if before is not None and before.value > 0 else None


def _estimate(estimate: Estimate) -> documents.Estimate:
    ends = (estimate.low, estimate.high)
    low, high = ends if all(end is not None and np.isfinite(end) for end in ends) else (None, None)
    return documents.Estimate(value=estimate.value, low=low, high=high)
