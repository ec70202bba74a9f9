"""The evaluation as tables, a page, figures and MLflow metrics."""

from collections.abc import Callable, Iterable

from proofcard.documents.evaluation import Divergence, Estimate, Evaluation, Stream
from proofcard.documents.manifest import Manifest
from proofcard.reports import Section, markdown
from proofcard.screen import in_markdown
from proofcard.tracking import Tracker
from proofcard.tracking_headlines import of_evaluation, plain

_WORST = 8  # experts of a table
_HEADER = ["KL", "95%", "PPL %", "95%", "top-1 %", "95%"]  # as wide as a terminal of 80 columns takes


def sections(evaluation: Evaluation) -> list[Section]:
    """Every question with its answer."""
    tables = [_fidelity(evaluation), _datasets(evaluation)]
    if evaluation.costs:
        tables.append(_costs(evaluation))
    tables.append(_layers(evaluation))
    if any(stream.role == "cell" for stream in evaluation.streams):
        tables.append(_cells(evaluation))
    if evaluation.experts:
        tables.append(_experts(evaluation))
    return tables


def _fidelity(evaluation: Evaluation) -> Section:
    texts = evaluation.texts
    held = "held out from calibration" if texts.samples_key else "from a file"
    rows = [[s.name, *_row(s.all)] for s in evaluation.streams if s.role == "candidate"]
    caption = (
        f"{texts.documents} texts {held}, {texts.positions:,} positions; KL in 10⁻³ nats, PPL % the change "
        "of perplexity, top-1 % the same first token; 95% intervals over texts"
    )
    return Section("What quantization costs", caption, ["run", *_HEADER], rows)


def _row(measured: Divergence) -> list[str]:
    n = measured.numbers
    return [
        *_both(n["kl_mean"], _milli), *_both(n["perplexity_ratio"], _change), *_both(n["same_top"], _share)
    ]  # fmt: skip


def _datasets(evaluation: Evaluation) -> Section:
    last = _stream(evaluation, evaluation.last)
    rows = [
        [name, *_both(measured.numbers["kl_mean"], _milli), *_both(measured.numbers["same_top"], _share)]
        for name, measured in last.by_dataset.items()
    ]
    header = ["texts", "KL", "95%", "top-1 %", "95%"]
    return Section("By kind of text", f"{evaluation.last} beside the source", header, rows)


def _costs(evaluation: Evaluation) -> Section:
    rows = [
        [each.cost, f"{each.before or 'source'} → {each.after}", *_both(each.kl_mean, _milli)]
        for each in evaluation.costs
    ]
    return Section(
        "What each part costs",
        "difference of the mean KL in 10⁻³ nats, over the same drawn texts",
        ["part", "from, to", "KL", "95%"],
        rows,
    )


def _layers(evaluation: Evaluation) -> Section:
    most = max(evaluation.layers, key=lambda layer: layer.share.value)
    names = [stream.name for stream in evaluation.streams if stream.role == "candidate"]
    routers = any(block.overlap for layer in evaluation.layers for block in layer.blocks)
    rows = []
    for layer in evaluation.layers:
        row = [str(layer.layer), *(_percent(layer.error[name].value) for name in names)]
        row += [_percent(layer.local.value), _percent(layer.share.value)]
        if routers:
            known = [block.overlap[evaluation.last].value for block in layer.blocks if block.overlap]
            row.append(_percent(min(known)) if known else "–")
        rows.append(row)
    header = ["layer", *names, "by itself", "share", *(["same experts"] if routers else [])]
    caption = (
        f"relative error of each layer's output; layer {most.layer} by itself adds the most, "
        f"{_percent(most.share.value)} of all (squared)"
    )
    return Section("Where", caption, header, rows)


def _cells(evaluation: Evaluation) -> Section:
    rows = [["source", "0", "–", "100", "–"]]
    for stream in evaluation.streams:
        if stream.role == "cell" or stream.name == evaluation.last:
            n = stream.all.numbers
            rows.append([stream.name, *_both(n["kl_mean"], _milli), *_both(n["same_top"], _share)])
    caption = (
        "every token to the experts, and with the weights, that one model's routers chose, in either model"
    )
    return Section("Routes or experts", caption, ["weights and routes", "KL", "95%", "top-1 %", "95%"], rows)


def _experts(evaluation: Evaluation) -> Section:
    worst = sorted(evaluation.experts, key=lambda each: -each.share.value)[:_WORST]
    rows = [
        [
            str(e.layer),
            e.expert.rpartition(".")[2],
            str(e.rows),
            *(_both(e.error, _hundredths) if e.error else ("–", "–")),
            *_both(e.share, _hundredths),
        ]
        for e in worst
    ]
    return Section(
        "Which experts",
        f"{evaluation.last} on the rows that the source's routers send; shares are of the squared error",
        ["layer", "expert", "rows", "error %", "95%", "share %", "95%"],
        rows,
    )


def page(evaluation: Evaluation, drawn: Iterable[str]) -> str:
    """The page in Markdown, the figures beside it."""
    name = in_markdown(evaluation.checkpoint.recipe or "a checkpoint")
    lines = [f"# Fidelity: {name}", "", *markdown(sections(evaluation))]
    lines += [line for figure in drawn for line in (f"![{figure}]({figure}.png)", "")]
    return "\n".join(lines)


def track(tracker: Tracker, evaluation: Evaluation, sealed: Manifest, reused: bool) -> None:
    """The headline numbers as metrics, of layers at the layer's step; the numbers of every run as tables.

    `reused` is an evaluation of which `track_layer` has logged nothing in this run.
    """
    tracker.tags({"evaluation.key": sealed.key})
    tracker.text(sealed.text(), "manifest.json")
    read = evaluation.texts
    counts = {"documents": str(read.documents), "positions": str(read.positions)}
    texts = tracker.data("held_out_texts", read.sha256, "evaluation", **counts)
    tracker.headlines(of_evaluation(evaluation), texts)
    candidates = [stream for stream in evaluation.streams if stream.role == "candidate"]
    tracker.metrics(
        {
            f"kl_{plain(stream.name)}": stream.all.numbers["kl_mean"].value
            for stream in candidates
            if stream.name != evaluation.last
        }
    )
    tracker.table(
        [
            _named(stream.name, part, measured)
            for stream in evaluation.streams
            for part, measured in [("all", stream.all), *stream.by_dataset.items()]
        ],
        "evaluation/fidelity.json",
    )
    tracker.table(
        [
            {"part": each.cost, "from": each.before or "source", "to": each.after} | _ends("KL", each.kl_mean)
            for each in evaluation.costs
        ],
        "evaluation/costs.json",
    )
    for layer in evaluation.layers:
        values = {"by_layer/error_local": layer.local.value, "by_layer/error_share": layer.share.value}
        if reused:
            values |= {f"by_layer/error_{plain(s.name)}": layer.error[s.name].value for s in candidates}
        known = [block.overlap[evaluation.last].value for block in layer.blocks if block.overlap]
        if known:
            values["by_layer/same_experts"] = min(known)
        tracker.metrics(values, step=layer.layer)


def track_layer(tracker: Tracker, index: int, errors: dict[str, float]) -> None:
    """A layer's relative errors as soon as they are known; those of replayed routes are in the document."""
    shown = {name.partition("/")[2]: value for name, value in errors.items() if "routes" not in name}
    shown.pop("local", None)  # comes with the share, at the end
    tracker.metrics({f"by_layer/error_{plain(name)}": value for name, value in shown.items()}, step=index)


def _named(run: str, texts: str, measured: Divergence) -> dict[str, object]:
    """A row of a table: the main numbers with their intervals."""
    row: dict[str, object] = {"run": run, "texts": texts, "documents": measured.documents}
    for name, title in (("kl_mean", "KL"), ("perplexity_ratio", "PPL ratio"), ("same_top", "top-1")):
        row |= _ends(title, measured.numbers[name])
    return row


def _ends(title: str, estimate: Estimate) -> dict[str, object]:
    return {title: estimate.value, f"{title} low": estimate.low, f"{title} high": estimate.high}


def _stream(evaluation: Evaluation, name: str) -> Stream:
    return next(stream for stream in evaluation.streams if stream.name == name)


def _both(estimate: Estimate, text: Callable[[float], str]) -> list[str]:
    """A number and its interval, a cell each."""
    if estimate.low is None or estimate.high is None:
        return [text(estimate.value), "–"]
    return [text(estimate.value), f"{text(estimate.low)}..{text(estimate.high)}"]


def _milli(value: float) -> str:
    return f"{1000 * value:.3g}"


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"
