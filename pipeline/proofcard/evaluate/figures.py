"""Figures of an evaluation: how the error grows over the layers, and where among the experts it is made."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from proofcard.charts import COLOURS, figure_of, layer_ticks
from proofcard.documents.evaluation import Evaluation
from proofcard.screen import in_a_figure


def figures(evaluation: Evaluation) -> dict[str, Callable[[], Any]]:
    """What draws each figure, by name."""
    drawn: dict[str, Callable[[], Any]] = {"layers": partial(layers, evaluation)}
    if any(block.overlap for layer in evaluation.layers for block in layer.blocks):
        drawn["routers"] = partial(routers, evaluation)
    if evaluation.experts:
        drawn["experts"] = partial(experts, evaluation)
    return drawn


def layers(evaluation: Evaluation) -> Any:
    """Relative error of the hidden states after each layer, with its interval, and each layer's own."""
    figure = figure_of(8.0, 4.8)
    chart = figure.subplots()
    steps = [layer.layer for layer in evaluation.layers]
    for place, stream in enumerate(evaluation.streams):
        estimates = [layer.error[stream.name] for layer in evaluation.layers]
        colour = COLOURS[place % len(COLOURS)]
        dashes = "--" if stream.role == "cell" else "-"
        name = in_a_figure(stream.name)
        chart.plot(
            steps,
            [100 * e.value for e in estimates],
            dashes,
            marker="o",
            markersize=3,
            color=colour,
            label=name,
        )
        if all(e.low is not None for e in estimates):
            low, high = ([100 * (getattr(e, end) or 0.0) for e in estimates] for end in ("low", "high"))
            chart.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    alone = [100 * layer.local.value for layer in evaluation.layers]
    label = in_a_figure(f"each layer by itself, {evaluation.last}")
    chart.plot(steps, alone, ":", marker="s", markersize=3, color="0.3", label=label)
    chart.set(xlabel="layer", ylabel="relative error of the layer's output, %")
    chart.set_ylim(bottom=0)
    chart.xaxis.get_major_locator().set_params(integer=True)
    chart.grid(color="0.9")
    chart.legend(frameon=False, fontsize="small")
    figure.suptitle("How far the hidden states are from the source's")
    return figure


def routers(evaluation: Evaluation) -> Any:
    """The share of experts that both routers choose, by layer: the smallest of a layer's blocks."""
    figure = figure_of(8.0, 4.2)
    chart = figure.subplots()
    names = [stream.name for stream in evaluation.streams if stream.role == "candidate"]
    for place, name in enumerate(names):
        points = [
            (layer.layer, 100 * min(block.overlap[name].value for block in layer.blocks if block.overlap))
            for layer in evaluation.layers
            if any(block.overlap for block in layer.blocks)
        ]
        colour = COLOURS[place % len(COLOURS)]
        chart.plot(
            *zip(*points, strict=True), marker="o", markersize=3, color=colour, label=in_a_figure(name)
        )
    chart.set(xlabel="layer", ylabel="experts chosen by both, %")
    chart.xaxis.get_major_locator().set_params(integer=True)
    chart.grid(color="0.9")
    chart.legend(frameon=False)
    figure.suptitle("How often the routers agree")
    return figure


def experts(evaluation: Evaluation) -> Any:
    """Relative error of every expert on the rows that it gets, a map of layers and experts."""
    numbers = sorted({each.layer for each in evaluation.experts})
    rows = {
        layer: [e.error.value if e.error else None for e in evaluation.experts if e.layer == layer]
        for layer in numbers
    }
    table = np.full((len(numbers), max(map(len, rows.values()))), np.nan)
    for place, layer in enumerate(numbers):
        for at, error in enumerate(rows[layer]):
            table[place, at] = np.nan if error is None else 100 * error
    figure = figure_of(8.0, max(3.2, min(8.0, 2.2 + 0.14 * len(numbers))))
    chart = figure.subplots()
    picture = chart.imshow(table, cmap="cividis", aspect="auto", interpolation="nearest")
    chart.set(xlabel="expert", ylabel="layer")
    chart.set_yticks(*layer_ticks(numbers))
    figure.colorbar(picture, ax=chart, pad=0.01).set_label("relative error of the expert's output, %")
    figure.suptitle(in_a_figure(f"What each expert's quantization costs, {evaluation.last}"))
    return figure
