"""Figures of what calibration saw, for a person to look at. No byte of a checkpoint depends on them.

The colours are Okabe and Ito's and the map cividis: both can be told apart by every kind of eye, and in grey.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from proofcard.charts import BLUE, COLD, GREY, figure_of, layer_ticks, plain_ticks
from proofcard.quantize.metrics import quantizer_groups, reached, settled
from proofcard.quantize.statistics import Found
from proofcard.screen import in_a_figure


def coverage(found: Found) -> Any:
    """Positions that the router sent to each expert: a map of layers and experts, and its spread by layer."""
    from matplotlib.colors import LogNorm

    routed = _padded([block.routed for block in found.experts])
    cold, rows = routed == 0, np.arange(len(routed))
    seen = np.where(cold, np.nan, routed)
    figure = figure_of(14, max(3.6, min(9.0, 2.4 + 0.16 * len(rows))))
    chart, spread = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    least, most = np.nanpercentile(seen, (0.5, 99.5))  # a few extremes shall not take all the colours
    picture = chart.imshow(
        seen,
        cmap="cividis",
        norm=LogNorm(least, max(most, 2 * least)),
        aspect="auto",
        interpolation="nearest",
    )
    chart.set(xlabel="expert", ylabel="layer", title="positions routed to each expert")
    chart.set_yticks(*layer_ticks([block.layer for block in found.experts]))
    bar = figure.colorbar(picture, ax=chart, pad=0.01, extend="both")
    bar.set_label("positions, log scale")
    plain_ticks(bar.ax.yaxis)

    low, middle, high = (f(routed, axis=1) for f in (np.nanmin, np.nanmedian, np.nanmax))
    nothing = 0.5  # where a logarithmic axis shows 0
    spread.hlines(
        rows,
        np.maximum(low, nothing),
        high,
        color=BLUE,
        alpha=0.35,
        linewidth=3,
        label="smallest to largest",
    )
    spread.plot(np.maximum(middle, nothing), rows, "o", color=BLUE, markersize=3, label="median of the layer")
    if cold.any():
        where = rows[cold.any(axis=1)]
        spread.plot(np.full(len(where), nothing), where, "s", color=COLD, markersize=5)
        across, down = np.nonzero(cold)[::-1]
        chart.scatter(
            across, down, 26, COLD, marker="s", edgecolors="white", linewidths=0.6, label="cold: none at all"
        )
    spread.set(xscale="log", xlabel="positions, log scale", title="spread over experts")
    plain_ticks(spread.xaxis)
    spread.grid(axis="x", color="0.9")
    figure.legend(loc="outside lower right", ncols=3, frameon=False)

    forced = sum(int((block.forced > 0).sum()) for block in found.experts)
    told = f"{forced:,} also forced to see every position" if forced else "none forced to see more"
    total = int((~np.isnan(routed)).sum())
    figure.suptitle(
        f"Expert coverage: {found.positions:,} positions through each layer; "
        f"of {total:,} experts {int(cold.sum()):,} cold, {told}"
    )
    return figure


def convergence(found: Found) -> Any:
    """How amaxes grew with the samples: how much of its last value each kind had, and how many had it all."""
    groups = quantizer_groups(found)
    final, share = settled(found), reached(found)
    figure = figure_of(3.2 * max(len(groups), 2) + 1, 6.4)
    charts = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (title, chosen) in enumerate(groups):
        known = chosen & ~np.isnan(share[:, -1])
        part, done = 100 * share[known], 100 * final[known].mean(axis=0)
        top, bottom = charts[0][column], charts[1][column]
        low, middle, worst = np.percentile(part, 5, axis=0), np.median(part, axis=0), part.min(axis=0)
        top.fill_between(found.samples, low, 100, color=BLUE, alpha=0.18, linewidth=0, label="95% are above")
        top.plot(found.samples, middle, "o-", color=BLUE, markersize=4, label="median")
        top.plot(found.samples, worst, "v--", color=COLD, markersize=4, label="worst")
        top.set(title=f"{in_a_figure(title)}\n{known.sum():,} quantizers", xscale="log", ylim=(-3, 105))
        bottom.plot(found.samples, done, "s-", color=GREY, markersize=4)
        bottom.set(xlabel="calibration samples", ylim=(-3, 105))
        _sample_ticks(bottom, found.samples)
        for chart in (top, bottom):
            chart.grid(color="0.9")
    charts[0][0].set_ylabel("amax so far, % of the last one")
    charts[1][0].set_ylabel("quantizers at their last amax, %")
    charts[0][-1].legend(loc="lower right")
    figure.suptitle(f"Convergence of amax over {found.samples[-1]:,} samples")
    return figure


def amax(found: Found) -> Any:
    """The amax that each scale was made from, by layer: median, and smallest to largest of the layer."""
    groups = quantizer_groups(found)
    figure = figure_of(3.4 * max(len(groups), 2) + 1, 4.2)
    charts = figure.subplots(1, len(groups), squeeze=False)[0]
    for chart, (title, chosen) in zip(charts, groups, strict=True):
        layers = np.unique(found.layers[chosen])
        of_layer = [found.exported[chosen & (found.layers == layer)] for layer in layers]
        low, middle, high = (np.array([f(v) for v in of_layer]) for f in (np.min, np.median, np.max))
        if any(values.size > 1 for values in of_layer):
            chart.fill_between(
                layers, low, high, color=BLUE, alpha=0.18, linewidth=0, label="smallest to largest"
            )
        chart.plot(layers, middle, "o-", color=BLUE, markersize=3, label="median")
        chart.set(title=f"{in_a_figure(title)}\n{chosen.sum():,} quantizers", xlabel="layer", yscale="log")
        middle_of = float(np.sqrt(low.min() * high.max()))
        chart.set_ylim(min(low.min() / 1.3, middle_of / 3), max(high.max() * 1.3, middle_of * 3))
        chart.xaxis.get_major_locator().set_params(integer=True)
        plain_ticks(chart.yaxis)
        chart.grid(color="0.9")
    charts[0].set_ylabel("amax, log scale")
    charts[0].legend(loc="best")
    figure.suptitle("Exported amax by layer")
    return figure


def figures(found: Found) -> dict[str, Callable[[Found], Any]]:
    """The figures by name; that of experts only where there are any."""
    of_experts = {"coverage": coverage} if found.experts else {}
    return of_experts | {"convergence": convergence, "amax": amax}


def _padded(counts: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one float array, NaN behind the shorter ones."""
    table = np.full((len(counts), max(map(len, counts))), np.nan)
    for row, values in zip(table, counts, strict=True):
        row[: len(values)] = values
    return table


def _sample_ticks(chart: Any, samples: list[int]) -> None:
    """The marks themselves on the axis, the last one always, fewer where they are many."""
    shown = samples[:: -(len(samples) // 6 + 1)]
    chart.set_xticks(shown, [f"{count:,}" for count in shown])
    chart.minorticks_off()
