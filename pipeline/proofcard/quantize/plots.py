"""Figures of the calibration statistics. No byte of a checkpoint depends on them.

The colours are Okabe and Ito's and the map cividis: both can be told apart by every kind of eye, and in grey.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from proofcard.charts import BLUE, COLD, GREY, figure_of, layer_ticks, plain_ticks
from proofcard.quantize.metrics import converged, quantizer_groups, share_of_last
from proofcard.quantize.statistics import CalibrationStatistics
from proofcard.screen import in_a_figure


def coverage(stats: CalibrationStatistics) -> Any:
    """Positions routed to each expert: a heat map of layers and experts, and the spread in each layer."""
    from matplotlib.colors import LogNorm

    routed = _padded([block.routed for block in stats.experts])
    cold, rows = routed == 0, np.arange(len(routed))
    seen = np.where(cold, np.nan, routed)
    figure = figure_of(10, max(3.6, min(9.0, 2.4 + 0.16 * len(rows))))
    chart, spread = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    least, most = np.nanpercentile(seen, (0.5, 99.5))  # keep a few extremes from using up the colour range
    picture = chart.imshow(
        seen,
        cmap="cividis",
        norm=LogNorm(least, max(most, 2 * least)),
        aspect="auto",
        interpolation="nearest",
    )
    chart.set(xlabel="expert", ylabel="layer", title="positions routed to each expert")
    chart.set_yticks(*layer_ticks([block.layer for block in stats.experts]))
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
            across, down, 26, COLD, marker="s", edgecolors="white", linewidths=0.6, label="cold: no position"
        )
    spread.set(xscale="log", xlabel="positions, log scale", title="spread over experts")
    plain_ticks(spread.xaxis)
    spread.grid(axis="x", color="0.9")
    figure.legend(loc="outside lower right", ncols=3, frameon=False)

    forced = sum(int((block.forced > 0).sum()) for block in stats.experts)
    note = f"{forced:,} were also forced to see every position" if forced else "none forced"
    total = int((~np.isnan(routed)).sum())
    figure.suptitle(
        f"Expert coverage: {stats.positions:,} positions through each layer; "
        f"{int(cold.sum()):,} of {total:,} experts cold, {note}"
    )
    return figure


def convergence(stats: CalibrationStatistics) -> Any:
    """How amaxes grew with the samples: the fraction of the last value, and the share of quantizers at it."""
    groups = quantizer_groups(stats)
    final, share = converged(stats), share_of_last(stats)
    figure = figure_of(2.3 * max(len(groups), 2) + 1, 5.6)
    charts = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (title, chosen) in enumerate(groups):
        known = chosen & ~np.isnan(share[:, -1])
        part, done = 100 * share[known], 100 * final[known].mean(axis=0)
        top, bottom = charts[0][column], charts[1][column]
        low, middle, worst = np.percentile(part, 5, axis=0), np.median(part, axis=0), part.min(axis=0)
        top.fill_between(stats.samples, low, 100, color=BLUE, alpha=0.18, linewidth=0, label="95% are above")
        top.plot(stats.samples, middle, "o-", color=BLUE, markersize=4, label="median")
        top.plot(stats.samples, worst, "v--", color=COLD, markersize=4, label="worst")
        top.set(title=f"{in_a_figure(title)}\n{known.sum():,} quantizers", xscale="log", ylim=(-3, 105))
        bottom.plot(stats.samples, done, "s-", color=GREY, markersize=4)
        bottom.set(xlabel="calibration samples", ylim=(-3, 105))
        _sample_ticks(bottom, stats.samples)
        for chart in (top, bottom):
            chart.grid(color="0.9")
    charts[0][0].set_ylabel("amax so far, % of the last one")
    charts[1][0].set_ylabel("quantizers at their last amax, %")
    charts[0][-1].legend(loc="lower right")
    figure.suptitle(f"Convergence of amax over {stats.samples[-1]:,} samples")
    return figure


def amax(stats: CalibrationStatistics) -> Any:
    """The amax behind each scale, by layer: median, and smallest to largest."""
    groups = quantizer_groups(stats)
    figure = figure_of(2.4 * max(len(groups), 2) + 1, 3.8)
    charts = figure.subplots(1, len(groups), squeeze=False)[0]
    for chart, (title, chosen) in zip(charts, groups, strict=True):
        layers = np.unique(stats.layers[chosen])
        of_layer = [stats.exported[chosen & (stats.layers == layer)] for layer in layers]
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


def figures(stats: CalibrationStatistics) -> dict[str, Callable[[CalibrationStatistics], Any]]:
    """The figures by name; the one of experts only for a model that has some."""
    of_experts = {"coverage": coverage} if stats.experts else {}
    return of_experts | {"convergence": convergence, "amax": amax}


def _padded(counts: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one float array, NaN behind the shorter ones."""
    table = np.full((len(counts), max(map(len, counts))), np.nan)
    for row, values in zip(table, counts, strict=True):
        row[: len(values)] = values
    return table


def _sample_ticks(chart: Any, samples: list[int]) -> None:
    """Put the marks themselves on the axis, always with the last one, fewer where there are many."""
    shown = samples[:: -(len(samples) // 6 + 1)]
    chart.set_xticks(shown, [f"{count:,}" for count in shown])
    chart.minorticks_off()
