"""The evaluation as tables, a page, figures and MLflow metrics."""

from collections.abc import Callable, Iterable

from proofcard.documents.evaluation import Divergence, Estimate, Evaluation, Stream
from proofcard.documents.manifest import Manifest
from proofcard.evaluate.streams import slug
from proofcard.reports import Section, markdown
from proofcard.screen import in_markdown
from proofcard.tracking import Tracker

_WORST = 8  # experts of a table
_HEADER = ["KL", "95%", "PPL %", "95%", "top-1 %", "95%"]  # as wide as a terminal of 80 columns takes


def sections(evaluation: Evaluation) -> list[Section]:
    """Every question with its answer."""
    found = [_fidelity(evaluation), _datasets(evaluation)]
    if evaluation.costs:
        found.append(_costs(evaluation))
    found.append(_layers(evaluation))
    if any(stream.role == "cell" for stream in evaluation.streams):
        found.append(_cells(evaluation))
    if evaluation.experts:
        found.append(_experts(evaluation))
    return found


def _fidelity(evaluation: Evaluation) -> Section:
    texts = evaluation.texts
    held = "held out from calibration" if texts.samples_key else "from a file"
    rows = [[s.name, *_row(s.all)] for s in evaluation.streams if s.role == "candidate"]
    said = (
        f"{texts.documents} texts {held}, {texts.positions:,} positions; KL in 10⁻³ nats, PPL % the change "
        "of perplexity, top-1 % the same first token; 95% intervals over texts"
    )
    return Section("What quantization costs", said, ["run", *_HEADER], rows)


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
    said = (
        f"relative error of each layer's output; layer {most.layer} by itself adds the most, "
        f"{_percent(most.share.value)} of all (squared)"
    )
    return Section("Where", said, header, rows)


def _cells(evaluation: Evaluation) -> Section:
    rows = [["source", "0", "–", "100", "–"]]
    for stream in evaluation.streams:
        if stream.role == "cell" or stream.name == evaluation.last:
            n = stream.all.numbers
            rows.append([stream.name, *_both(n["kl_mean"], _milli), *_both(n["same_top"], _share)])
    said = "every token to the experts, and with the weights, that one model's routers chose, in either model"
    return Section("Routes or experts", said, ["weights and routes", "KL", "95%", "top-1 %", "95%"], rows)


def _experts(evaluation: Evaluation) -> Section:
    worst = sorted(evaluation.experts, key=lambda each: -each.share.value)[:_WORST]
    rows = [
        [
            e.expert,
            str(e.rows),
            *(_both(e.error, _hundredths) if e.error else ("–", "–")),
            *_both(e.share, _hundredths),
        ]
        for e in worst
    ]
    return Section(
        "Which experts",
        f"{evaluation.last} on the rows that the source's routers send; the shares of the squared error",
        ["expert", "rows", "error %", "95%", "share %", "95%"],
        rows,
    )


def page(evaluation: Evaluation, drawn: Iterable[str]) -> str:
    """The page in Markdown, the figures beside it."""
    name = in_markdown(evaluation.checkpoint.recipe or "a checkpoint")
    lines = [f"# Fidelity: {name}", "", *markdown(sections(evaluation))]
    lines += [line for figure in drawn for line in (f"![{figure}]({figure}.png)", "")]
    return "\n".join(lines)


def track(tracker: Tracker, evaluation: Evaluation, sealed: Manifest) -> None:
    """Every number with its interval, as metrics; of layers at the layer's step."""
    tracker.tags({"evaluation.key": sealed.key})
    tracker.text(sealed.text(), "manifest.json")
    for stream in evaluation.streams:
        for part, measured in [("", stream.all), *((f"{n}/", m) for n, m in stream.by_dataset.items())]:
            tracker.metrics(_flat(f"{slug(stream.name)}/{part}", measured.numbers))
    tracker.metrics(_flat("cost/", {slug(each.cost): each.kl_mean for each in evaluation.costs}))
    for layer in evaluation.layers:
        values = {f"error/{slug(name)}": estimate for name, estimate in layer.error.items()}
        values |= {"error/local": layer.local, "share": layer.share}
        for place, block in enumerate(layer.blocks):
            at = f"/{place}" if place else ""
            values |= {f"overlap{at}/{slug(name)}": each for name, each in (block.overlap or {}).items()}
            values |= {f"moved{at}/{slug(name)}": each for name, each in (block.moved or {}).items()}
        tracker.metrics(_flat("layer/", values), step=layer.layer)


def _flat(prefix: str, numbers: dict[str, Estimate]) -> dict[str, float]:
    made: dict[str, float] = {}
    for name, estimate in numbers.items():
        ends = {"": estimate.value, ".low": estimate.low, ".high": estimate.high}
        made |= {f"{prefix}{name}{end}": value for end, value in ends.items() if value is not None}
    return made


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
