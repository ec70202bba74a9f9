"""Figures of the calibration statistics. No byte of a checkpoint depends on them.

matplotlib is imported when the first figure is drawn. The colours are Okabe and Ito's and the map is cividis:
both can be distinguished with any colour vision, and in greyscale.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from proofcard.quantize.metrics import by_kind, converged, kind, share_of_last
from proofcard.quantize.statistics import CalibrationStatistics
from proofcard.screen import in_a_figure

_BLUE, GREY, COLD = "#0072B2", "#666666", "#D55E00"
_TITLES = {"input": "inputs of", "k_bmm": "keys", "v_bmm": "values"}


def coverage(stats: CalibrationStatistics) -> Any:
    """Positions routed to each expert: a heat map of layers and experts, and the spread in each layer."""
    from matplotlib.colors import LogNorm

    routed = _padded([block.routed for block in stats.experts])
    cold, rows = routed == 0, np.arange(len(routed))
    seen = np.where(cold, np.nan, routed)
    figure = figure_of(14, max(3.6, min(9.0, 2.4 + 0.16 * len(rows))))
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
        color=_BLUE,
        alpha=0.35,
        linewidth=3,
        label="smallest to largest",
    )
    spread.plot(
        np.maximum(middle, nothing), rows, "o", color=_BLUE, markersize=3, label="median of the layer"
    )
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
    figure = figure_of(3.2 * max(len(groups), 2) + 1, 6.4)
    charts = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (title, chosen) in enumerate(groups):
        known = chosen & ~np.isnan(share[:, -1])
        part, done = 100 * share[known], 100 * final[known].mean(axis=0)
        top, bottom = charts[0][column], charts[1][column]
        low, middle, worst = np.percentile(part, 5, axis=0), np.median(part, axis=0), part.min(axis=0)
        top.fill_between(stats.samples, low, 100, color=_BLUE, alpha=0.18, linewidth=0, label="95% are above")
        top.plot(stats.samples, middle, "o-", color=_BLUE, markersize=4, label="median")
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
    figure = figure_of(3.4 * max(len(groups), 2) + 1, 4.2)
    charts = figure.subplots(1, len(groups), squeeze=False)[0]
    for chart, (title, chosen) in zip(charts, groups, strict=True):
        layers = np.unique(stats.layers[chosen])
        of_layer = [stats.exported[chosen & (stats.layers == layer)] for layer in layers]
        low, middle, high = (np.array([f(v) for v in of_layer]) for f in (np.min, np.median, np.max))
        if any(values.size > 1 for values in of_layer):
            chart.fill_between(
                layers, low, high, color=_BLUE, alpha=0.18, linewidth=0, label="smallest to largest"
            )
        chart.plot(layers, middle, "o-", color=_BLUE, markersize=3, label="median")
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


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def quantizer_groups(stats: CalibrationStatistics) -> list[tuple[str, np.ndarray]]:
    """Quantizers by what they quantize, with a title: inputs by the linear's name, keys, values.

    Linears that always get the same input, such as gate and up, form one group.
    """
    parts = [name.split(".") for name in stats.names]
    labels = np.array(
        [part[-2] if kind(name) == "input" else "" for name, part in zip(stats.names, parts, strict=True)]
    )
    groups: dict[bytes, tuple[str, np.ndarray]] = {}
    for kind_, chosen in by_kind(stats).items():
        for label in dict.fromkeys(labels[chosen].tolist()):
            mine = chosen & (labels == label)
            same = stats.measured[mine].tobytes() + stats.exported[mine].tobytes()
            if same in groups:
                title, first = groups[same]
                groups[same] = (f"{title}, {label}", first | mine)
            else:
                groups[same] = (f"{_TITLES[kind_]} {label}".strip(), mine)
    return list(groups.values())


def _padded(counts: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one float array, NaN behind the shorter ones."""
    table = np.full((len(counts), max(map(len, counts))), np.nan)
    for row, values in zip(table, counts, strict=True):
        row[: len(values)] = values
    return table


def layer_ticks(layers: list[int]) -> tuple[list[int], list[int]]:
    """Rows and labels of layer ticks: every layer of up to 20, every fifth of more."""
    every = 1 if len(layers) <= 20 else 5
    rows = [row for row, layer in enumerate(layers) if layer % every == 0]
    return rows, [layers[row] for row in rows]


def _sample_ticks(chart: Any, samples: list[int]) -> None:
    """Put the marks themselves on the axis, always with the last one, fewer where there are many."""
    shown = samples[:: -(len(samples) // 6 + 1)]
    chart.set_xticks(shown, [f"{count:,}" for count in shown])
    chart.minorticks_off()


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis 1, 2, 5, 10 instead of with powers; decades only over a wide range."""
    low, high = sorted(axis.get_view_interval())
    steps = (1, 2, 5) if high / low < 500 else (1,)
    ticks = [digit * 10.0**power for power in range(-12, 15) for digit in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, [f"{tick:g}" if tick < 1000 else _thousands(tick) for tick in shown])
    axis.set_ticks([], minor=True)


def _thousands(value: float) -> str:
    return f"{value / 1e3:g}k" if value < 1e6 else f"{value / 1e6:g}M"
