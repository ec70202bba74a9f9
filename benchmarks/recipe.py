"""python benchmarks/recipe.py --dir DIR [--layers 8] [--samples 48] [--tokens 4096] [--gpus 1 2] [--set …]

The recipe end to end on GPUs, as a user types it: layers of MiniMax-M2.7's width (FP8, random weights) are
made, quantized by `quantize` with long samples, once for each number of GPUs, and what came out is verified
against the source. Prints the seconds of a layer and of the whole command, GPU memory and power, whether
every number of GPUs gave the same bytes, and the hours of 62 layers of 1,250 batches if each took as long.
Exit status 1 when something does not hold. Wants 4 GB of disk a layer for the source, 2.4 for a checkpoint.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from layer import EXPERT, HIDDEN, LAYERS, STEPS
from wide_source import ROOT, make_source

BATCH = 4
LONG = {"output", "generated_solution", "value", "content"}  # what is said, in the demo's datasets


def longer(value: Any, times: int, key: str = "") -> Any:
    """A row whose texts are said many times over."""
    if isinstance(value, dict):
        return {name: longer(inner, times, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [longer(inner, times, key) for inner in value]
    return " ".join([value] * times) if isinstance(value, str) and key in LONG else value


def make_texts(folder: Path, tokens: int) -> list[str]:
    """The demo's datasets with long samples; the settings that name them."""
    settings = []
    for file in sorted((ROOT / "demo/datasets").glob("*/train.jsonl")):
        path = folder / file.parent.name / "train.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (json.loads(line) for line in file.read_text().splitlines())
        path.write_text("".join(json.dumps(longer(row, tokens // 10)) + "\n" for row in rows))
        settings.append(f"calibration.datasets.{file.parent.name}.path={path.parent}")
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


def proofcard(command: str, settings: list[str], processes: int = 1) -> str:
    """What one of our commands prints. Raises SystemExit with it when it fails."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    done = subprocess.run(
        [*start, "proofcard", command, *settings],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=os.environ,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command} {' '.join(settings)}\n{done.stdout[-3000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"layers": 8, "experts": 256, "samples": 48, "tokens": 4096}
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
    settings = make_texts(folder / "texts", said.tokens)
    settings += [f"calibration.datasets.{name}.samples={said.samples}" for name in names(settings)]
    settings += [f"model.path={source}", "model.attn_implementation=sdpa", "tracking=off", *said.set,
                 f"calibration.sequence_length={said.tokens}", f"calibration.batch_size={BATCH}"]  # fmt: skip
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


def names(settings: list[str]) -> list[str]:
    return [setting.split(".")[2] for setting in settings]


def alike(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", str(one), str(other)], check=False).returncode == 0


def quantized(folder: Path, settings: list[str], gpus: int, said: argparse.Namespace) -> Path:
    """Quantize once, and print what it took."""
    made = folder / f"checkpoint-{gpus}"
    place = [f"hardware={'cuda' if gpus else 'cpu'}", f"output_dir={made}", f"work_dir={folder}/work-{gpus}"]
    power = Power()
    power.start()
    started = time.perf_counter()
    told = proofcard("quantize", [*settings, *place], max(1, gpus))
    seconds = time.perf_counter() - started
    sealed = json.loads((made / "manifest.json").read_text())["statistics"]
    layers = [float(found) for found in re.findall(r"layer \d+/\d+: ([\d.]+) s", told)]
    each = sum(layers[1:]) / len(layers[1:])
    steps = -(-sealed["samples"] // BATCH)
    whole = sealed["positions"] / sealed["samples"]
    shape = f"{len(layers)} layers, {steps} batches of {BATCH} x {whole:.0f} tokens"
    print(f"{gpus} GPU       {shape}: {seconds:.0f} s, {power.end()}")
    print(f"a layer     {layers[0]:.1f} s the first, {each:.1f} s the others: {each / steps:.3f} s a batch")
    hours = LAYERS * each * STEPS / steps / 3600
    print(f"62 layers   {hours:.2f} h with {STEPS} batches a layer, were all as long", flush=True)
    return made


if __name__ == "__main__":
    main()
