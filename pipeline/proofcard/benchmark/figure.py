"""The figure of tokens/s by number of users, for these results and others."""

from typing import Any

from proofcard.benchmark.report import Series
from proofcard.charts import BLUE, COLOURS, GREY, figure_of, plain_ticks
from proofcard.documents.benchmark import Results
from proofcard.screen import in_a_figure

_OTHERS = (*COLOURS[1:5], GREY)


def throughput(results: Results, beside: list[Series]) -> Any:
    """Total throughput and tokens/s per user; bars from the lowest to the highest of the server's starts."""
    figure = figure_of(9.0, 4.2)
    charts = figure.subplots(1, 2)
    names = ("tokens_per_s", "tokens_per_s_user")
    for chart, name, title in zip(charts, names, ("all users", "per user"), strict=True):
        for colour, series in zip(_OTHERS, beside, strict=False):
            of = series.aggregate if name == "tokens_per_s" else series.per_user
            if of:
                chart.plot(
                    list(of),
                    list(of.values()),
                    "s--",
                    color=colour,
                    markersize=4,
                    label=in_a_figure(series.name),
                )
            wrong = {users: of[users] for users in series.wrong if users in of}
            chart.plot(list(wrong), list(wrong.values()), "x", color=colour, markersize=10)
        levels = [level for level in results.levels if getattr(level, name) is not None]
        spreads = [level.figures()[name] for level in levels]
        middle = [each.mean for each in spreads]
        below = [each.mean - each.least for each in spreads]
        above = [each.most - each.mean for each in spreads]
        users = [level.users for level in levels]
        chart.errorbar(
            users, middle, (below, above), fmt="o-", color=BLUE, capsize=3, label=in_a_figure(results.name)
        )
        chart.set(xscale="log", yscale="log", xlabel="concurrent users", title=title)
        chart.set_xticks(users, [str(each) for each in users])
        chart.minorticks_off()
        low, high = chart.get_ylim()
        chart.set_ylim(low / 1.7, high * 1.7)
        plain_ticks(chart.yaxis)
        chart.grid(color="0.9")
    charts[0].set_ylabel("tokens/s")
    charts[0].legend(loc="best")
    return figure
