"""Prints a plan: a summary of a dozen lines, or with `details` every table, for terminals of any width."""

from typing import Any

from rich.text import Text

from proofcard.documents.plan import Plan, Plans
from proofcard.grid import Grid
from proofcard.screen import Screen
from proofcard.units import counted, duration, many, operations, size

_NAMES = {
    "parameters": "parameters",
    "quantizers_inserted": "quantizers inserted",
    "quantizers_enabled": "quantizers enabled",
    "export_tensors": "tensors of the checkpoint",
    "export_bytes": "size of the checkpoint",
    "download_bytes": "download",
    "samples": "calibration samples",
    "positions": "calibration tokens, at most",
    "positions_per_expert": "tokens that each expert sees, at most",
    "flop_routed": "work of the routed pass",
    "flop_forced": "work of the pass over all experts",
    "layerwise_disk_bytes": "disk with engine=layerwise",
    "weights_per_gpu_bytes": "weights per GPU",
    "calibration_floor_hours": "calibration, at least",
    "evaluation_floor_hours": "evaluation, at least",
}
"""What people call the numbers of `compare.numbers`, by the part of the name before `/`."""


def show(shown_plan: Plan | Plans, out: Screen, details: bool = False) -> None:
    """Print a plan, or two side by side."""
    if isinstance(shown_plan, Plans):
        differences(shown_plan, out)
    else:
        plan(shown_plan, out, details)


def plan(shown_plan: Plan, out: Screen, details: bool = False) -> None:
    """Print the summary of a plan, and every part of it with `details`."""
    _summary(shown_plan, out)
    if not details:
        out.print(
            "details=true shows modules, patterns, tensors, coverage, memory and every GPU", soft_wrap=True
        )
        return
    for part in (_quantizers, _modules, _globs, _export, _coverage, _work, _serving):
        out.print()
        part(shown_plan, out)


def differences(shown_plan: Plans, out: Screen) -> None:
    """Print two plans side by side: what differs, and what that changes as it is printed."""
    effects = [
        (_name(row.name), _value(row.name, row.a), _value(row.name, row.b)) for row in shown_plan.changes
    ]
    settings = [
        (row.name, _value(row.name, row.a), _value(row.name, row.b)) for row in shown_plan.configuration
    ]
    for title, rows in (
        ("differences in configuration", settings),
        ("effect", [row for row in effects if row[1] != row[2]]),
    ):
        out.print()
        if not rows:
            out.print(f"{title}: nothing")
            continue
        table = Grid("", *shown_plan.recipes, title=title)
        for row in rows:
            table.add_row(*row)
        out.print(table)
    out.print()


def _name(name: str) -> str:
    what, _, where = name.partition("/")
    return f"{_NAMES.get(what, what)}, {where.replace('x ', '× ')}" if where else _NAMES.get(what, what)


def _value(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    what = name.partition("/")[0]
    if what.endswith("_bytes"):
        return size(value)
    if what.endswith("_hours"):
        return duration(value)
    return operations(value) if what.startswith("flop") else f"{value:,.0f}"


def _summary(shown_plan: Plan, out: Screen) -> None:
    model, export, work = shown_plan.model, shown_plan.export, shown_plan.work
    memory, judged, here = work.memory, shown_plan.evaluation, shown_plan.machine
    experts = f", {model.experts} experts, top {model.experts_per_token}" if model.experts else ""
    linears = sum(row.modules for row in shown_plan.modules)
    selected = sum(row.selected for row in shown_plan.modules)
    weights = sum(row.parameters for row in shown_plan.modules if row.selected)
    share = weights / max(model.parameters, 1)
    tokens = f"up to {many(work.positions)} tokens"
    if work.positions_per_expert is not None:
        tokens += f"; each expert sees up to {many(work.positions_per_expert.seen)}"
    fitting = [f"{row.profile} ({row.runs})" for row in shown_plan.serving if row.fits]
    times = [row.calibration_floor_hours for row in shown_plan.serving if row.calibration_floor_hours]
    work_time = f"; at least {duration(min(times))} on the fastest of these GPUs" if times else ""
    table = Grid("", "", left=(0, 1))
    with_gpu = size(memory.layerwise_host) if memory.layerwise_host else "buffers only"
    host = f"{with_gpu} with a GPU, {size(memory.layerwise_host_without_gpu)} without"
    files = counted(len(export.files), "file")
    free = f"{size(here.memory)} memory, {size(here.disk_free)} free"
    rows = {
        "model": f"{model.architecture}, {many(model.parameters)} parameters, {model.layers} layers{experts}",
        "NVFP4": f"{selected:,} of {linears:,} linears, {100 * share:.1f}% of the parameters",
        "checkpoint": f"{size(export.bytes)} in {files}, {export.tensors:,} tensors",
        "samples": f"{work.samples:,}, {tokens}",
        "download": size(memory.source),
        "GPU memory": f"{size(memory.layerwise_gpu)} besides activations; none is needed",
        "host memory": host,
        "disk": f"{size(memory.layerwise_disk)} for source, result and temporary files",
        "work": f"{operations(work.flop_routed + work.flop_forced)}{work_time}",
        "evaluate": f"{operations(judged.flop)}, reads {size(judged.read)}",
        "serves on": "; ".join(fitting) or "none of the known GPUs",
        "this machine": f"{counted(here.cores, 'core')}, {free}",
    }
    for label, text in rows.items():
        table.add_row(label, text)
    out.print(Text(f"{shown_plan.recipe.name}: {shown_plan.recipe.summary}", style="bold"))
    out.print(table)
    for difference in shown_plan.source.differences:
        out.print(f"note: {difference}")


def _quantizers(shown_plan: Plan, out: Screen) -> None:
    quantizers = shown_plan.quantizers
    agree = (
        "as predicted by formula"
        if quantizers.inserted == quantizers.by_formula
        else f"the formula predicts {quantizers.by_formula:,}"
    )
    out.print(f"quantizers: {quantizers.inserted:,} inserted, {agree}; {quantizers.enabled:,} enabled")
    if quantizers.inserted != quantizers.inserted_after_dequantizing:
        out.print(
            f"  {quantizers.inserted_after_dequantizing:,} in a model dequantized first, as both engines do: "
            "its linears have output quantizers"
        )


def _modules(shown_plan: Plan, out: Screen) -> None:
    table = Grid(
        "kind", "modules", "NVFP4", "weights", "deciding pattern", left=(0, 4), title="linear modules"
    )
    for row in shown_plan.modules:
        kind = row.kind.removeprefix("model.").removeprefix("layers.*.")
        counts = (f"{row.modules:,}", f"{row.selected:,}", many(row.parameters))
        table.add_row(kind, *counts, row.glob or "(no pattern)")
    out.print(table)


def _globs(shown_plan: Plan, out: Screen) -> None:
    table = Grid("pattern", "sets", "matches", "decides", title="ModelOpt's patterns")
    for row in shown_plan.globs:
        if row.matches:
            table.add_row(row.glob, "on" if row.enables else "off", f"{row.matches:,}", f"{row.decides:,}")
    out.print(table)
    idle = [row.glob for row in shown_plan.globs if not row.matches]
    if idle:
        out.print(f"patterns of other architectures, without any match: {', '.join(idle)}")


def _export(shown_plan: Plan, out: Screen) -> None:
    export = shown_plan.export
    table = Grid("what", "dtype", "tensors", "size", title="the checkpoint")
    for row in export.groups:
        table.add_row(row.role, row.dtype, f"{row.tensors:,}", size(row.bytes))
    table.add_section()
    table.add_row("all", counted(len(export.files), "file"), f"{export.tensors:,}", size(export.bytes))
    out.print(table)


def _coverage(shown_plan: Plan, out: Screen) -> None:
    work, each = shown_plan.work, shown_plan.work.positions_per_expert
    if each is None:
        return
    length = shown_plan.config["calibration"]["sequence_length"]
    coverage = shown_plan.config["coverage"]["name"]
    table = Grid(
        "samples", f"as routed, {length}", f"all experts, {length}", "as routed, 512", "all experts, 512",
        title="tokens per expert, at most",
    )  # fmt: skip
    for row in work.coverage_table:
        columns = ("samples", "routed", "forced", "routed_as_run", "forced_as_run")
        table.add_row(*(f"{getattr(row, column):,}" for column in columns))
    out.print(table)
    out.print(
        f"this recipe: {work.samples:,} samples, coverage={coverage}: {each.seen:,} per expert "
        f"({each.routed:,} of them as routed)"
    )


def _work(shown_plan: Plan, out: Screen) -> None:
    work, memory = shown_plan.work, shown_plan.work.memory
    table = Grid("", "engine=layerwise", "engine=modelopt", title="requirements")
    whole = size(memory.modelopt_gpu_and_host)
    host = size(memory.layerwise_host) if memory.layerwise_host else "buffers only"
    table.add_row("download", size(memory.source), size(memory.source))
    table.add_row("GPU, without activations", size(memory.layerwise_gpu), "GPU and host together")
    table.add_row("host with a GPU", host, whole)
    table.add_row("host without a GPU", size(memory.layerwise_host_without_gpu), whole)
    table.add_row("disk: source, result, temporary", size(memory.layerwise_disk), size(memory.modelopt_disk))
    table.add_row("of which hidden states", size(memory.hidden_states), "–")
    table.add_row("routed pass", operations(work.flop_routed), operations(work.flop_routed))
    table.add_row("pass over all experts", *map(operations, (work.flop_forced, work.flop_forced_modelopt)))
    out.print(table)
    judged = shown_plan.evaluation
    out.print()
    out.print(
        f"evaluate, {judged.texts} texts of {judged.positions // judged.texts:,} tokens, {judged.runs} runs: "
        f"{operations(judged.flop)}, GPU {size(judged.gpu)} (without one {size(judged.host_without_gpu)} of "
        f"memory), disk {size(judged.disk)}, reads {size(judged.read)}: "
        f"{duration(judged.reading_floor_hours)} at 3 GB/s"
    )


def _serving(shown_plan: Plan, out: Screen) -> None:
    table = Grid(
        "GPUs", "NVFP4", "weights per GPU", "KV tokens BF16 / FP8", "context BF16 / FP8", "calibration",
        "evaluation", title="where it runs",
    )  # fmt: skip
    for row in shown_plan.serving:
        tokens, context, fit = row.kv_tokens, row.context, row.fits
        table.add_row(
            row.profile,
            row.runs,
            size(row.weights_per_gpu),
            f"{tokens.bf16:,} / {tokens.fp8:,}" if fit else "does not fit",
            f"{context.bf16:,} / {context.fp8:,}" if fit else "–",
            *(
                "–" if hours is None else duration(hours)
                for hours in (row.calibration_floor_hours, row.evaluation_floor_hours)
            ),
        )
        for claim in row.card:
            table.add_row("the card says", "", claim.weights, claim.kv_tokens, claim.context)
    out.print(table)
    out.print("calibration, evaluation: at least, if every product ran at the data sheet's BF16 rate")
    for row in shown_plan.serving:
        for claim in row.card:
            if claim.correction:
                out.print(f"{row.profile}: {claim.correction}")
