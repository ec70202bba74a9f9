"""python benchmarks/recipe.py --dir DIR [--layers 8] [--datasets 1] [--samples 600] [--gpus 1 2] [--set …]

The recipe end to end on GPUs, as a user types it: layers of MiniMax-M2.7's width (FP8, random weights) are
made, quantized by `quantize` with long samples, once for each number of GPUs, and what came out is verified
against the source. Prints the seconds of a layer and of the whole command, GPU memory and power, whether
every number of GPUs gave the same bytes, and the hours of 62 layers of 1,250 batches if each took as long.
`--samples` is for each dataset: the card's five have 1,000 each, and the screen answers for fewer experts
the longer a dataset lasts. A number of GPUs whose checkpoint is there already is not run again.
Exit status 1 when something does not hold. Wants 4 GB of disk a layer for the source, 2.4 for a checkpoint,
and 50 MB a sample of 4,096 tokens.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from layer import EXPERT, HIDDEN, LAYERS, STEPS
from wide_source import ROOT, make_source, slot_by_slot

BATCH = 4
COLUMNS = "open_math_reasoning"


def make_texts(folder: Path, tokens: int, samples: int, datasets: int = 1) -> list[str]:
    """Datasets of long solutions, words in any order; the settings that name them alone.

    Each has the columns of the demo's open_math_reasoning, and the name of one of the demo's datasets.
    """
    names = sorted(path.parent.name for path in (ROOT / "demo/datasets").glob("*/train.jsonl"))
    example = ROOT / "demo/datasets" / COLUMNS / "train.jsonl"
    rows = [json.loads(line) for line in example.read_text().splitlines()]
    words = " ".join(row["generated_solution"] for row in rows).split()
    settings = [f"~calibration.datasets.{name}" for name in names[datasets:]]
    for place, name in enumerate(names[:datasets]):
        path = folder / name / "train.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for number in range(place * samples, (place + 1) * samples):
                text = " ".join(random.Random(number).choices(words, k=tokens))
                file.write(json.dumps(rows[number % len(rows)] | {"generated_solution": text}) + "\n")
        one = f"calibration.datasets.{name}"
        settings += [f"{one}.adapter={COLUMNS}", f"{one}.path={path.parent}", f"{one}.samples={samples}"]
    return settings


class Power(threading.Thread):
    """The most memory of a GPU in use, in MiB, and its mean power, in watts, every second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory, self.watts, self._ended = 0, [0.0], threading.Event()

    def run(self) -> None:
        query = ["nvidia-smi", "--query-gpu=memory.used,power.draw", "--format=csv,noheader,nounits"]
        while not self._ended.wait(1):
            try:
                said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            memory, watts = zip(*(map(float, line.split(",")) for line in said.splitlines()), strict=True)
            self.memory = max(self.memory, int(max(memory)))
            self.watts.append(max(watts))

    def end(self) -> str:
        self._ended.set()
        busy = self.watts[len(self.watts) // 3 :]
        return f"GPU memory {self.memory / 1024:.1f} GiB at most, {sum(busy) / len(busy):.0f} W"


def proofcard(command: str, settings: list[str], processes: int = 1) -> list[tuple[float, str]]:
    """The lines that one of our commands prints, each after how many seconds; the last is its end.

    Raises SystemExit with them when it fails.
    """
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    started = time.perf_counter()
    running = subprocess.Popen(
        [*start, "proofcard", command, *settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert running.stdout is not None
    said = [(time.perf_counter() - started, line) for line in running.stdout]
    if running.wait():
        raise SystemExit(f"{command} {' '.join(settings)}\n{''.join(line for _, line in said)[-3000:]}")
    return [*said, (time.perf_counter() - started, "")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"layers": 8, "experts": 256, "datasets": 1, "samples": 600, "tokens": 4096}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1], help="0: a CPU")
    parser.add_argument("--set", nargs="*", default=[], help="more settings of `quantize`")
    said = parser.parse_args()
    folder: Path = said.dir.resolve()
    started = time.perf_counter()
    if not (source := folder / "source").exists():
        make_source(source, said.layers, said.experts, HIDDEN, EXPERT, head_dim=128)
    print(f"source made in {time.perf_counter() - started:.0f} s", flush=True)
    settings = make_texts(folder / "texts", said.tokens, said.samples, said.datasets)
    settings += [f"model.path={source}", slot_by_slot(source), "model.attn_implementation=sdpa",
                 "tracking=off", f"calibration.sequence_length={said.tokens}",
                 f"calibration.batch_size={BATCH}", *said.set]  # fmt: skip
    folders = [quantized(folder, settings, gpus, said) for gpus in said.gpus]
    files = [{path.name: path for path in made.glob("*.safetensors")} for made in folders]
    same = all(
        alike(files[0][name], other[name]) for other in files[1:] for name in files[0].keys() | other.keys()
    )
    if len(folders) > 1:
        print(f"bytes       {'equal' if same else 'DIFFERENT'} for {said.gpus} GPUs")
    started = time.perf_counter()
    proofcard("verify", [f"checkpoint={folders[0]}", f"source={source}", "tracking=off"])
    print(f"verified    in {time.perf_counter() - started:.0f} s")
    raise SystemExit(not same)


def alike(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", str(one), str(other)], check=False).returncode == 0


def quantized(folder: Path, settings: list[str], gpus: int, said: argparse.Namespace) -> Path:
    """Quantize once, and print what it took."""
    made = folder / f"checkpoint-{gpus}"
    if (made / "manifest.json").exists():
        return made
    place = [f"hardware={'cuda' if gpus else 'cpu'}", f"output_dir={made}", f"work_dir={folder}/work-{gpus}"]
    power = Power()
    power.start()
    told = proofcard("quantize", [*settings, *place], max(1, gpus))
    drawn = power.end()
    layer = re.compile(r"layer \d+/\d+: ([\d.]+) s")
    ends = [(at, float(found[1])) for at, line in told if (found := layer.search(line))]
    seconds, layers = told[-1][0], [took for _, took in ends]
    sealed = json.loads((made / "manifest.json").read_text())["statistics"]
    each = sum(layers[1:]) / len(layers[1:])
    steps = -(-sealed["samples"] // BATCH)
    whole = sealed["positions"] / sealed["samples"]
    shape = f"{len(layers)} layers, {steps} batches of {BATCH} x {whole:.0f} tokens"
    print(f"{gpus} GPU       {shape}: {seconds:.0f} s, {drawn}")
    before, after = ends[0][0] - layers[0], seconds - ends[-1][0]
    print(f"of it       {before:.0f} s before the first layer, {after:.0f} s after the last")
    print(f"a layer     {layers[0]:.1f} s the first, {each:.1f} s the others: {each / steps:.3f} s a batch")
    hours = LAYERS * each * STEPS / steps / 3600
    print(f"62 layers   {hours:.2f} h with {STEPS} batches a layer, were all as long", flush=True)
    return made


if __name__ == "__main__":
    main()
