"""Prints a plan in tables that fit 100 columns."""

from typing import Any

from rich.table import Table

from proofcard.documents.plan import Plan, Plans
from proofcard.screen import Screen

_SIZES = ("bytes", "_bytes")


def show(shown_plan: Plan | Plans, out: Screen) -> None:
    """Print a plan, or two side by side."""
    if isinstance(shown_plan, Plans):
        differences(shown_plan, out)
    else:
        plan(shown_plan, out)


def plan(shown_plan: Plan, out: Screen) -> None:
    """Print every part of a plan."""
    _summary(shown_plan, out)
    _modules(shown_plan, out)
    _globs(shown_plan, out)
    _export(shown_plan, out)
    _coverage(shown_plan, out)
    _work(shown_plan, out)
    _serving(shown_plan, out)


def differences(shown_plan: Plans, out: Screen) -> None:
    """Print two plans side by side."""
    for title, rows in (
        ("differences in configuration", shown_plan.configuration),
        ("effect", shown_plan.changes),
    ):
        table = _table(title, "", *shown_plan.recipes)
        for row in rows:
            table.add_row(row.name, *(_value(row.name, value) for value in (row.a, row.b)))
        out.print(table if rows else f"{title}: nothing")


def _value(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        if "bytes" in name:
            return size(int(value))
        if "hours" in name:
            return f"{value:.2f}"
        return f"{value:.2e}" if value >= 1e12 else f"{value:,.0f}"
    return str(value)


def size(count: int) -> str:
    """Bytes as decimal and binary units: `134.3 GB (125.1 GiB)`."""
    for unit, power in (("G", 3), ("M", 2)):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}B ({count / 1024**power:.1f} {unit}iB)"
    return f"{count / 1000:.1f} kB"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="", expand=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _duration(hours: float) -> str:
    """`3.2 h`, or minutes or seconds for less than one hour or minute."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.2g} s"


def _summary(shown_plan: Plan, out: Screen) -> None:
    model, quantizers = shown_plan.model, shown_plan.quantizers
    experts = f", {model.experts} experts, top {model.experts_per_token}" if model.experts else ""
    out.print(f"{shown_plan.recipe.name}: {shown_plan.recipe.summary}")
    out.print(f"{model.architecture}: {model.parameters:,} parameters, {model.layers} layers{experts}")
    for difference in shown_plan.source.differences:
        out.print(f"note: {difference}")
    agree = (
        "as predicted by formula"
        if quantizers.inserted == quantizers.by_formula
        else (f"the formula predicts {quantizers.by_formula:,}")
    )
    out.print(f"quantizers: {quantizers.inserted:,} inserted, {agree}; {quantizers.enabled:,} enabled")
    if quantizers.inserted != quantizers.inserted_after_dequantizing:
        out.print(
            f"            {quantizers.inserted_after_dequantizing:,} in a model dequantized first, as both"
            " engines do: its linears have output quantizers"
        )


def _modules(shown_plan: Plan, out: Screen) -> None:
    table = _table("linear modules", "kind", "modules", "NVFP4", "weights", "deciding pattern")
    for row in shown_plan.modules:
        glob = row.glob or "(no pattern)"
        counts = (f"{row.modules:,}", f"{row.selected:,}", _count(row.parameters))
        table.add_row(row.kind.removeprefix("model.").removeprefix("layers.*."), *counts, glob)
    out.print(table)


def _globs(shown_plan: Plan, out: Screen) -> None:
    used = [row for row in shown_plan.globs if row.matches]
    table = _table("ModelOpt's patterns", "pattern", "sets", "matches", "decides")
    for row in used:
        table.add_row(row.glob, "on" if row.enables else "off", f"{row.matches:,}", f"{row.decides:,}")
    out.print(table)
    idle = [row.glob for row in shown_plan.globs if not row.matches]
    if idle:
        out.print(f"patterns of other architectures, without any match: {', '.join(idle)}")


def _export(shown_plan: Plan, out: Screen) -> None:
    export = shown_plan.export
    table = _table("the checkpoint", "what", "dtype", "tensors", "size")
    for row in export.groups:
        table.add_row(row.role, row.dtype, f"{row.tensors:,}", size(row.bytes))
    table.add_section()
    table.add_row("all", f"{len(export.files)} files", f"{export.tensors:,}", size(export.bytes))
    out.print(table)


def _coverage(shown_plan: Plan, out: Screen) -> None:
    work, each = shown_plan.work, shown_plan.work.positions_per_expert
    if each is None:
        return
    length = shown_plan.config["calibration"]["sequence_length"]
    coverage = shown_plan.config["coverage"]["name"]
    table = _table(
        "tokens per expert, at most", "samples", f"as routed, {length}", f"all experts, {length}",
        "as routed, 512", "all experts, 512",
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
    table = _table("requirements", "", "engine=layerwise", "engine=modelopt")
    table.add_row("download", size(memory.source), size(memory.source))
    whole = size(memory.modelopt_gpu_and_host)
    table.add_row("GPU, without activations", size(memory.layerwise_gpu), "GPU and host together")
    host_memory = memory.layerwise_host
    table.add_row("host with a GPU", size(host_memory) if host_memory else "buffers only", whole)
    table.add_row("host without a GPU", size(memory.layerwise_host_without_gpu), whole)
    table.add_row("disk: source, result, temporary", size(memory.layerwise_disk), size(memory.modelopt_disk))
    table.add_row("  of which hidden states", size(memory.hidden_states), "–")
    table.add_row("FLOP, routed pass", f"{work.flop_routed:.2e}", f"{work.flop_routed:.2e}")
    table.add_row("FLOP, forced pass", f"{work.flop_forced:.2e}", f"{work.flop_forced_modelopt:.2e}")
    out.print(table)
    judged = shown_plan.evaluation
    out.print(
        f"evaluate, {judged.texts} texts of {judged.positions // judged.texts:,} tokens, {judged.runs} runs: "
        f"{judged.flop:.2e} FLOP, GPU {size(judged.gpu)} (without one {size(judged.host_without_gpu)} of "
        f"memory), disk {size(judged.disk)}, reads {size(judged.read)}: "
        f"{60 * judged.reading_floor_hours:.1f} min at 3 GB/s"
    )
    floors = [(row.profile, row.evaluation_floor_hours) for row in shown_plan.serving]
    known = [f"{name} {60 * hours:.1f} min" for name, hours in floors if hours is not None]
    if known:
        out.print(f"  its products at the data sheet's BF16 rate: {', '.join(known)}")
    here = shown_plan.machine
    out.print(f"this machine: {here.cores} cores, {size(here.memory)} memory, {size(here.disk_free)} free")


def _serving(shown_plan: Plan, out: Screen) -> None:
    table = _table(
        "where it runs", "", "NVFP4", "weights per GPU", "KV tokens BF16 / FP8", "context BF16 / FP8", "floor"
    )
    for row in shown_plan.serving:
        tokens, context = row.kv_tokens, row.context
        hours = row.calibration_floor_hours
        fit = row.fits
        table.add_row(
            row.profile,
            row.runs,
            f"{row.weights_per_gpu / 1e9:.1f} GB",
            f"{tokens.bf16:,} / {tokens.fp8:,}" if fit else "does not fit",
            f"{context.bf16:,} / {context.fp8:,}" if fit else "–",
            "–" if hours is None else _duration(hours),
        )
        for claim in row.card:
            table.add_row("  the card", "", claim.weights, claim.kv_tokens, claim.context, "")
    out.print(table)
    out.print("floor: calibration time if every product ran at the data sheet's BF16 rate")
    for row in shown_plan.serving:
        for claim in row.card:
            if claim.correction:
                out.print(f"{row.profile}: {claim.correction}")
