"""What all figures share: size, colours, ticks. matplotlib is imported when the first figure is drawn.

The colours are Okabe and Ito's: they can be told apart by every kind of eye, and in grey.
"""

from typing import Any

BLUE, GREY, COLD = "#0072B2", "#666666", "#D55E00"
COLOURS = (BLUE, COLD, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def layer_ticks(layers: list[int]) -> tuple[list[int], list[int]]:
    """Rows and labels of layer ticks: every layer of up to 20, every fifth of more."""
    every = 1 if len(layers) <= 20 else 5
    rows = [row for row, layer in enumerate(layers) if layer % every == 0]
    return rows, [layers[row] for row in rows]


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
