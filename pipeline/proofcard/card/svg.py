"""A chart as SVG: lines over an axis, the same bytes everywhere, no script, no font, no outside reference."""

from html import escape
from math import floor, log10

from proofcard.documents.card import Chart

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 312, 64, 16, 30, 44
_COLORS = ("#3366cc", "#c8553d", "#2e8b57", "#8a5fb5", "#b8860b", "#5f7a8a")
_ROW = 16  # of the legend, below the chart


def drawn(chart: Chart) -> str:
    """The chart as an SVG document; a line ends where a value is missing."""
    ys = [each for line in chart.series.values() for each in line if each is not None]
    if not ys or len(set(chart.x)) < 1:
        return ""
    high = _round_up(max(ys))
    left, right = min(chart.x), max(chart.x)
    wide = (right - left) or 1.0

    def at(x: float, y: float) -> str:
        across = _LEFT + (x - left) / wide * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - y / high * (_HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = []
    for step in range(5):
        y = high * step / 4
        start, end = at(left, y), at(right if right > left else left + 1, y)
        parts.append(_line(start, end, "0.2"))
        parts.append(_text(_LEFT - 6, float(start.split(",")[1]) + 4, f"{y:.6g}", "end"))
    for x in _ticks(chart.x):
        parts.append(_text(float(at(x, 0).split(",")[0]), _HEIGHT - _BOTTOM + 16, f"{x:g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, chart.x_title, "middle"))
    parts.append(_text(4, _TOP - 14, chart.y_title, "start"))
    for number, (name, line) in enumerate(chart.series.items()):
        color = _COLORS[number % len(_COLORS)]
        points = [at(x, y) for x, y in zip(chart.x, line, strict=True) if y is not None]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.5" fill="{color}"/>' for p in points
        ]
        down = _HEIGHT + _ROW * (number + 1)
        parts.append(f'<rect x="{_LEFT}" y="{down - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(_text(_LEFT + 16, down, name, "start"))
    tall = _HEIGHT + _ROW * (len(chart.series) + 1)
    title = f"<title>{escape(chart.title)}</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {tall}" width="{_WIDTH}" '
        f'height="{tall}" role="img" font-family="sans-serif" font-size="11" color="#777">{title}'
        f"{''.join(parts)}</svg>\n"
    )


def _round_up(value: float) -> float:
    """The top of an axis whose quarters are short numbers."""
    if value <= 0:
        return 1.0
    quarter = value / 4
    unit = 10.0 ** floor(log10(quarter))
    step = next(each * unit for each in (1, 2, 2.5, 5, 10) if each * unit >= quarter * (1 - 1e-9))
    return 4 * step


def _ticks(xs: list[float]) -> list[float]:
    return xs if len(xs) <= 8 else [xs[0], xs[len(xs) // 4], xs[len(xs) // 2], xs[3 * len(xs) // 4], xs[-1]]


def _line(start: str, end: str, opacity: str) -> str:
    (x1, y1), (x2, y2) = start.split(","), end.split(",")
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor" stroke-opacity="{opacity}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'
