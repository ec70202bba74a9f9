"""The comparison told: a few sentences with the numbers, and their tables."""

from typing import Any

from proofcard.reports import Section, markdown, percent
from proofcard.screen import in_markdown


def sections(told: dict[str, Any]) -> list[Section]:
    """What differs in tensors, files, configuration, samples and coverage, in this order.

    Before all of it, what is not what was sealed: a key says nothing of that.
    """
    found = [_altered(told)] if any(told[side]["altered"] for side in "ab") else []
    found.append(_tensors(told))
    if told["files"]:
        found.append(_files(told))
    if told["configuration"]:
        found.append(_values("Configuration", told["configuration"]))
    if told["statistics"]:
        found.append(_values("What calibration saw", told["statistics"]))
    if all(told["coverage"]):
        a, b = told["coverage"]
        rows = [[name.replace("_", " "), f"{a[name]:,}", f"{b[name]:,}"] for name in a]
        said = "Positions, padding included, that an expert of a layer saw."
        found.append(Section("Coverage", said, ["", "a", "b"], rows))
    return found


def page(told: dict[str, Any], found: list[Section]) -> str:
    """The report as Markdown."""
    who = [f"- {side}: {in_markdown(_name(told[side]))}" for side in "ab"]
    return "\n".join(["# Two checkpoints side by side", "", *who, "", *markdown(found)]) + "\n"


def _name(side: dict[str, Any]) -> str:
    if side["key"] is None:
        return f"{side['name']} (not sealed)"
    return f"{side['name']}, recipe {side['recipe']}, key {side['key']}"


def _tensors(told: dict[str, Any]) -> Section:
    groups = told["tensors"]
    both = [group for group in groups if group["dtype_a"] and group["dtype_b"]]
    alike = sum(group["tensors"] - group["differ"] for group in both)
    sizes = [sum(group[f"bytes_{side}"] for group in groups) for side in "ab"]
    said = (
        f"{alike:,} of {sum(group['tensors'] for group in groups):,} tensors are equal to the last bit; "
        f"a has {sizes[0]:,} bytes of tensors, b {sizes[1]:,}."
    )
    for side, other in (("a", "b"), ("b", "a")):
        if alone := sum(group["tensors"] for group in groups if not group[f"dtype_{other}"]):
            said += f" {alone:,} tensors are in {side} alone."
    if recast := [group for group in both if group["dtype_a"] != group["dtype_b"]]:
        many, rounded = (sum(group[key] for group in recast) for key in ("tensors", "rounded"))
        said += f" {many:,} have another dtype; {rounded:,} of them agree when rounded to BF16."
    said += " Bytes: the share of a's that differ. ULP: the largest distance in units of the last place."
    header = ["tensors of", "dtype", "number", "differ", "bytes", "ULP", "b / a"]
    return Section("Tensors", said, header, [_row(group) for group in groups])


def _altered(told: dict[str, Any]) -> Section:
    rows = [[name, side, told[side]["name"]] for side in "ab" for name in told[side]["altered"]]
    said = (
        "These files have changed since they were sealed, or are gone: the checkpoint is no longer the one "
        "of its key. What follows is about the bytes that are there now; verify says more."
    )
    return Section("Not what was sealed", said, ["file", "side", "folder"], rows)


def _files(told: dict[str, Any]) -> Section:
    rows = []
    for each in told["files"]:
        how = "differs" if each["a"] and each["b"] else "in a alone" if each["a"] else "in b alone"
        rows.append([each["name"], how])
    return Section("Other files", f"{len(rows)} differ.", ["", ""], rows)


def _row(group: dict[str, Any]) -> list[str]:
    dtypes = [group[f"dtype_{side}"].removeprefix("F8_") or "–" for side in "ab"]
    compared = dtypes[0] == dtypes[1]
    share = percent(group["bytes_differ"] / max(group["bytes_a"], 1))
    ratio = group.get("ratio")
    return [
        group["role"],
        dtypes[0] if compared else " → ".join(dtypes),
        f"{group['tensors']:,}",
        f"{group['differ']:,}",
        share if compared else "–",
        f"{group['steps']:.1e}" if group["steps"] > 9999 else str(group["steps"] or ""),
        f"{ratio['smallest']:.2f}..{ratio['largest']:.2f}" if ratio else "",
    ]


def _values(title: str, differing: list[dict[str, Any]]) -> Section:
    rows = [[each["name"], _short(each["a"]), _short(each["b"])] for each in differing]
    return Section(title, f"{len(rows)} values differ.", ["", "a", "b"], rows)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
