"""python benchmarks/side_by_side.py [--only NAME …] [--dir runs/side-by-side]

What each choice of the card buys on the demo: a checkpoint for each is quantized, evaluated on the same
held-out texts, and put into a table in Markdown. What is there already is reused.
About half a minute each on two cores.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DATASETS = (
    "open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
    "llama_nemotron",
)  # fmt: skip


def samples(each: int) -> list[str]:
    return [f"calibration.datasets.{name}.samples={each}" for name in DATASETS]


CHOICES: dict[str, tuple[list[str], str]] = {
    "as described (fp8, every expert, 80 samples)": ([], "w4a4+kv"),
    "KV cache: affine, with its biases": (["kv_cache=fp8_affine"], "w4a4+kv_affine"),
    "KV cache: affine, as engines run it": (["kv_cache=fp8_affine"], "w4a4+kv"),
    "KV cache: scales of 1": (["kv_cache=fp8_cast"], "w4a4+kv"),
    "KV cache: none": (["kv_cache=none"], "w4a4"),
    "quantized: all MLPs": (["quantization=nvfp4_mlp_only"], "w4a4+kv"),
    "samples: 15": (samples(3), "w4a4+kv"),
    "samples: 65": (samples(13), "w4a4+kv"),
    "coverage: natural": (["coverage=natural"], "w4a4+kv"),
    "coverage: top-up": (["coverage=top_up"], "w4a4+kv"),
    "as the card's code ran": (["recipe=demo_as_run"], "w4a4+kv"),
}
"""Overrides of `quantize`, and the run of the evaluation that a row is of."""
ROWS = ("kl_mean", "kl_p99", "perplexity_ratio", "same_top")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(CHOICES))
    parser.add_argument("--dir", type=Path, default=Path("runs/side-by-side"))
    said = parser.parse_args()
    print("| choice | run | KL, 10⁻³ nats | 95% | p99 | perplexity | same top-1 |")
    print("|---|---|---|---|---|---|---|")
    for name in said.only:
        overrides, run = CHOICES[name]
        found = evaluated(said.dir.absolute(), overrides)
        stream = next(each for each in found["streams"] if each["name"] == run)
        print(row(name, run, stream["all"]["numbers"]), flush=True)


def evaluated(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """The evaluation of the checkpoint that the overrides make; all are evaluated on one set of texts."""
    name = "-".join(word.rpartition(".")[2].replace("=", "-") for word in overrides[:1]) or "described"
    name += "-" + overrides[0].split("=")[-1] if overrides and "samples" in overrides[0] else ""
    checkpoint, work = folder / name, [f"work_dir={folder}", "tracking=off"]
    proofcard("quantize", *overrides, *work, f"output_dir={checkpoint}")
    out = folder / f"{name}.evaluated"
    pair = [f"checkpoint={checkpoint}", "source=demo/model", f"output_dir={out}"]
    proofcard("evaluate", *pair, *work, "evaluation.text=" + str(texts(folder)), "evaluation.routes=false")
    return json.loads((out / "evaluation.json").read_text())


def texts(folder: Path) -> Path:
    """The demo's texts that neither trained nor calibrated anything, as its chat template writes them."""
    from transformers import AutoTokenizer

    from proofcard.calibration.adapters import adapter
    from proofcard.config import QuantizeConfig, compose

    path = folder / "texts.jsonl"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    words = AutoTokenizer.from_pretrained("demo/model")
    datasets = compose(QuantizeConfig, "config", ["tracking=off"]).calibration.datasets
    lines = []
    for name, dataset in datasets.items():
        read = adapter(dataset.adapter)
        held_out = Path(f"demo/datasets/{name}/heldout.jsonl").read_text().splitlines()
        for line in held_out[:16]:
            said = read(json.loads(line))
            text = words.apply_chat_template(
                list(said.messages), tools=list(said.tools) or None, tokenize=False
            )
            lines.append(json.dumps({"dataset": name, "text": text}) + "\n")
    path.write_text("".join(lines))
    return path


def proofcard(*words: str) -> None:
    subprocess.run([Path(sys.executable).parent / "proofcard", *words], check=True, stdout=sys.stderr)


def row(name: str, run: str, numbers: dict[str, Any]) -> str:
    kl, p99, perplexity, same = (numbers[each] for each in ROWS)
    interval = f"{1000 * kl['low']:.2f}..{1000 * kl['high']:.2f}"
    change = f"{100 * (perplexity['value'] - 1):+.2f}%"
    cells = [name, f"`{run}`", f"{1000 * kl['value']:.2f}", interval, f"{1000 * p99['value']:.1f}", change]
    return "| " + " | ".join([*cells, f"{100 * same['value']:.1f}%"]) + " |"


if __name__ == "__main__":
    main()
