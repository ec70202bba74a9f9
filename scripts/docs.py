"""Figures, tables and pictures in the documentation that come from the program itself.

    make docs            # write them
    make docs CHECK=1    # write nothing; exit status 1 and the names of those that are stale

A block stands between `<!-- NAME -->` and `<!-- /NAME -->` of a Markdown file. Needs the demo's checkpoint
(`make demo-checkpoint`); plans a real recipe twice, half a minute each.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chain_picture import chain
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from proofcard.help import SUMMARIES

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {
    "minimax_m2_7_nvfp4": "the card's, as described",
    "minimax_m2_7_nvfp4_as_run": "as its code ran",
    "minimax_m2_7_nvfp4_recommended": "recommended",
}
_COLUMNS = 80


def block(text: str, name: str, content: str) -> str:
    """`text` with new lines between the marks of one block.

    Raises:
        SystemExit: when the marks are missing.
    """
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, opened, rest = text.partition(first)
    _, closed, after = rest.partition(last)
    if not (opened and closed):
        raise SystemExit(f"docs: the marks {first.strip()} … {last.strip()} are missing")
    return before + first + content + last + after


def commands() -> str:
    """The table of commands, from the program's own help."""
    rows = [f"| `{name}` | {summary} |\n" for name, summary in SUMMARIES.items()]
    return "| Command | |\n|---|---|\n" + "".join(rows)


def plans(by_recipe: dict[str, dict[str, Any]]) -> str:
    """What each recipe needs, from plan documents (`proofcard/plan/1`, `engine=layerwise`)."""
    head = "| | " + " | ".join(f"`{name}`<br>{RECIPES[name]}" for name in by_recipe) + " |\n"
    lines = [head, "|---|" + "---|" * len(by_recipe) + "\n"]
    for label, value in _ROWS.items():
        lines.append(f"| {label} | " + " | ".join(value(plan) for plan in by_recipe.values()) + " |\n")
    return "".join(lines)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB ({count / 2**30:,.0f} GiB)"


def _samples(plan: dict[str, Any]) -> str:
    calibration = plan["config"]["calibration"]
    count = sum(dataset["samples"] for dataset in calibration["datasets"].values())
    return f"{count:,} × {calibration['sequence_length']:,} tokens"


_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Samples": _samples,
    "Coverage, KV cache": lambda p: f"{p['config']['coverage']['name']}, {p['config']['kv_cache']['format']}",
    "Quantizers": lambda p: f"{p['quantizers']['inserted']:,}",
    "Download": lambda p: _gigabytes(p["source"]["download"]),
    "Result": lambda p: _gigabytes(p["export"]["bytes"]),
    "Disk in all": lambda p: _gigabytes(p["work"]["memory"]["layerwise_disk"]),
    "of it temporary": lambda p: _gigabytes(p["work"]["memory"]["hidden_states"]),
    "GPU memory, without activations": lambda p: _gigabytes(p["work"]["memory"]["layerwise_gpu"]),
}


def picture(words: list[str], cwd: Path, title: str) -> str:
    """A command and its output in a terminal of 80 columns, as SVG."""
    done = subprocess.run(
        [ROOT / ".venv/bin" / words[0], *words[1:]], cwd=cwd, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {"COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1"},
    )  # fmt: skip
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {' '.join(words)}", style="bold"))
    output = re.sub(r", \d+\.\d s(?=[;,\s])", "", done.stdout)  # how long it took differs each time
    console.print(Text.from_ansi(output))
    console.print(Text(f"exit status {done.returncode}", style="dim"))
    return console.export_svg(title=title, theme=MONOKAI, code_format=_SVG, unique_id="terminal")


_SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def verify_picture() -> str:
    """`verify` on the demo with one byte of one tensor changed."""
    demo = ROOT / "runs/checkpoints/demo"
    if not demo.exists():
        raise SystemExit("docs: the demo's checkpoint is missing: make demo-checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "their-NVFP4"
        shutil.copytree(demo.resolve(), theirs)
        (Path(folder) / "source").symlink_to(ROOT / "demo/model")
        (shard,) = sorted(theirs.glob("*.safetensors"))[:1]
        raw = bytearray(shard.read_bytes())
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        name = next(name for name in header if name.endswith("experts.3.w1.weight"))
        raw[8 + int.from_bytes(raw[:8], "little") + header[name]["data_offsets"][0] + 1000] ^= 1
        shard.write_bytes(raw)
        words = [
            "proofcard",
            "verify",
            "checkpoint=their-NVFP4",
            "source=source",
            "levels=[structure,weights]",
        ]
        return picture([*words, "tracking=off"], Path(folder), "one bit changed")


def planned(recipe: str) -> dict[str, Any]:
    """The plan document of one recipe, counted now."""
    words = [ROOT / ".venv/bin/proofcard", "plan", f"recipe={recipe}", "tracking=off", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, text=True, capture_output=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def main(check: bool) -> int:
    """Write what is stale, or only name it. Returns the exit status."""
    readme = (ROOT / "README.md").read_text()
    readme = block(readme, "commands", commands())
    readme = block(readme, "plans", plans({name: planned(name) for name in RECIPES}))
    new = {"README.md": readme, "docs/images/chain.svg": chain(), "docs/images/verify.svg": verify_picture()}
    stale = [
        name for name, text in new.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text
    ]
    for name in stale:
        if not check:
            (ROOT / name).write_text(new[name])
        print(f"docs: {name} {'is stale: make docs' if check else 'written'}", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["check"]))
