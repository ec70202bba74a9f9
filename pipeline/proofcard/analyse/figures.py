"""Figures that the analysis adds to those of `pipeline/proofcard/quantize/plots.py`."""

from typing import Any

import numpy as np

from proofcard.analyse.measure import natural_part, routed_of
from proofcard.charts import COLD, COLOURS, GREY, figure_of, layer_ticks, plain_ticks
from proofcard.quantize.metrics import quantizer_groups
from proofcard.quantize.statistics import CalibrationStatistics
from proofcard.screen import in_a_figure

_MARKS = "osv^DPX*"


def routing(found: CalibrationStatistics) -> Any:
    """Positions of each expert by its rank within its layer: one line per layer, and an even distribution."""
    figure = figure_of(7.5, 4.6)
    chart = figure.subplots()
    layers = len(found.experts)
    for place, block in enumerate(found.experts):
        ranked = np.sort(block.routed)[::-1]
        shade = _shade(place / max(1, layers - 1))
        label = f"layer {block.layer}" if place in (0, layers - 1) else None
        chart.plot(np.arange(1, ranked.size + 1), np.maximum(ranked, 0.5), color=shade, label=label)
    even = float(np.mean([block.routed.mean() for block in found.experts]))
    chart.axhline(even, color=GREY, linestyle="--", label=f"mean: {even:,.0f}")
    chart.axhline(even / 10, color=COLD, linestyle=":", label="a tenth of the mean")
    chart.set(xscale="log", yscale="log", xlabel="rank of the expert in its layer", ylabel="routed positions")
    plain_ticks(chart.xaxis)
    plain_ticks(chart.yaxis)
    chart.grid(color="0.9")
    chart.legend(frameon=False)
    figure.suptitle("Distribution of positions over experts")
    return figure


def datasets(found: CalibrationStatistics) -> Any:
    """The share of the last amax that each dataset alone reaches, by layer: the median of each group."""
    chosen = quantizer_groups(found)
    figure = figure_of(2.4 * max(len(chosen), 2) + 1, 3.8)
    charts = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    layers = np.unique(found.layers)
    part = 100 * found.of_dataset / np.where(found.measured[:, -1:] > 0, found.measured[:, -1:], np.nan)
    for chart, (title, mask) in zip(charts, chosen, strict=True):
        for column, name in enumerate(found.datasets):
            middle = [np.nanmedian(part[mask & (found.layers == layer), column]) for layer in layers]
            shade = COLOURS[column % len(COLOURS)]
            chart.plot(
                layers,
                middle,
                marker=_MARKS[column % len(_MARKS)],
                markersize=4,
                color=shade,
                label=in_a_figure(name),
            )
        chart.set(title=in_a_figure(title), xlabel="layer")
        chart.xaxis.get_major_locator().set_params(integer=True)
        chart.grid(color="0.9")
    charts[0].set_ylabel("amax of the dataset alone,\n% of the amax of all (median)")
    figure.legend(*charts[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Amax from one dataset alone")
    return figure


def forcing(found: CalibrationStatistics) -> Any:
    """The natural share of each expert's amax as a heat map of layers and experts, per group of linears."""
    part, seen = 100 * natural_part(found), routed_of(found)
    chosen = [
        (title, mask & (seen >= 0)) for title, mask in quantizer_groups(found) if (mask & (seen >= 0)).any()
    ]
    layers = [block.layer for block in found.experts]
    widest = max(block.routed.size for block in found.experts)
    height = max(3.2, min(8.0, 2.2 + 0.14 * len(layers)))
    figure = figure_of(6.5 * len(chosen), height)
    charts = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    row_of = {layer: row for row, layer in enumerate(layers)}
    low = float(min(np.nanmin(part[mask]) for _, mask in chosen))
    for chart, (title, mask) in zip(charts, chosen, strict=True):
        table = np.full((len(layers), widest), np.nan)
        for index in np.flatnonzero(mask):
            expert = int(found.names[index].rsplit(".", 3)[1])
            row = row_of[int(found.layers[index])]
            table[row, expert] = np.fmin(table[row, expert], part[index])
        picture = chart.imshow(
            table, cmap="cividis", vmin=low, vmax=100, aspect="auto", interpolation="nearest"
        )
        chart.set(xlabel="expert", title=in_a_figure(title))
        chart.set_yticks(*layer_ticks(layers))
    charts[0].set_ylabel("layer")
    figure.colorbar(picture, ax=list(charts), pad=0.01).set_label("natural amax, % of the forced one")
    figure.suptitle("Amax over naturally routed positions, per expert")
    return figure


def _shade(part: float) -> Any:
    from matplotlib import colormaps

    return colormaps["cividis"](part)
