"""python benchmarks/engines.py [--only demo|wide] [--layers 8] [--experts 48] [--hidden 768] [--inner 768]

engine=layerwise beside engine=modelopt: the whole demo, then a wider model (FP8, random weights), each
engine as a child process of the real command. `calibration` is, for modelopt, its forward passes alone;
for layerwise the whole of its layers, packing and writing included. Peak memory is the process's own.
Every run checks that both wrote the same bytes.
"""

import argparse
import os
import re
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from wide_source import make_source

from proofcard import manifest

DATASETS = (
    "open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
    "llama_nemotron",
)  # fmt: skip
ENGINES = ("layerwise", "modelopt")


class Measured(NamedTuple):
    """Seconds and bytes of one run."""

    wall: float
    calibration: float
    peak: int


def measure(folder: Path, engine: str, overrides: list[str]) -> Measured:
    """Run the command once in `folder` and leave its checkpoint in `folder/ENGINE`."""
    program = Path(sys.executable).parent / "proofcard"
    store = folder / f"{engine}.db"
    said = [f"engine={engine}", f"output_dir={folder / engine}", f"work_dir={folder / 'runs'}"]
    log = folder / f"{engine}.log"
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    start = time.perf_counter()
    process = os.posix_spawn(
        program,
        [str(program), "quantize", *said, f"tracking.uri=sqlite:///{store}", *overrides],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, log, write, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)],
    )
    _, status, used = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"engine={engine} failed: {log.read_text()[-2000:]}")
    lines = re.findall(r"^layer \d+/\d+: ([\d.]+) s", log.read_text(), re.MULTILINE)
    calibration = sum(map(float, lines)) if engine == "layerwise" else seconds_of_batches(store)
    return Measured(wall, calibration, 1024 * used.ru_maxrss)


def seconds_of_batches(store: Path) -> float:
    """Seconds of all forward passes, from what the run logged: after so many samples, samples a second."""
    with sqlite3.connect(store) as tables:
        rows = tables.execute(
            "select step, value from metrics where key = 'samples_per_second' order by step"
        )
        done, seconds = 0, 0.0
        for step, rate in rows:
            seconds += (step - done) / rate
            done = step
    return seconds


def differing(folder: Path) -> list[str]:
    """Files whose bytes are not the same; the manifests and the tables of one engine are left out."""
    ours, theirs = (
        {path.name: path for path in (folder / engine).iterdir() if path.name != manifest.NAME}
        for engine in ENGINES
    )
    ours = {name: path for name, path in ours.items() if not name.startswith("calibration_")}
    both = ours.keys() & theirs.keys()
    unequal = {name for name in both if ours[name].read_bytes() != theirs[name].read_bytes()}
    return sorted((ours.keys() ^ theirs.keys()) | unequal)


def compare(title: str, folder: Path, overrides: list[str]) -> bool:
    """Both engines, a line each and one beneath; whether the bytes are equal."""
    print(title)
    print(f"  {'':<12}{'whole command':>16}{'calibration':>16}{'peak memory':>16}", flush=True)
    found = {}
    for engine in ENGINES:
        found[engine] = measure(folder, engine, overrides)
        wall, calibration, peak = found[engine]
        print(f"  {engine:<12}{wall:>14.1f} s{calibration:>14.1f} s{peak / 2**30:>12.2f} GiB", flush=True)
    ours, theirs = found["layerwise"], found["modelopt"]
    ratios = [getattr(theirs, name) / getattr(ours, name) for name in Measured._fields]
    print(f"  {'ratio':<12}" + "".join(f"{ratio:>15.1f}×" for ratio in ratios))
    wrong = differing(folder)
    print("  bytes equal" if not wrong else f"  BYTES DIFFER: {', '.join(wrong)}", flush=True)
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("demo", "wide"))
    for name, value in {"layers": 8, "experts": 48, "hidden": 768, "inner": 768, "samples": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dir", type=Path, help="where the weights go; the temporary folder otherwise")
    said = parser.parse_args()
    equal = True
    with tempfile.TemporaryDirectory(dir=said.dir) as name:
        folder = Path(name)
        if said.only != "wide":
            (folder / "demo").mkdir()
            equal &= compare("demo, all of it", folder / "demo", [])
        if said.only != "demo":
            source = folder / "source"
            make_source(source, said.layers, said.experts, said.hidden, said.inner)
            size = sum(path.stat().st_size for path in source.glob("*.safetensors")) / 1e9
            each = [f"calibration.datasets.{n}.samples={-(-said.samples // len(DATASETS))}" for n in DATASETS]
            (folder / "wide").mkdir()
            title = (
                f"{said.layers} layers of {said.experts} experts, hidden {said.hidden}, {size:.2f} GB of FP8"
            )
            equal &= compare(title, folder / "wide", [f"model.path={source}", "hardware.threads=0", *each])
    raise SystemExit(not equal)


if __name__ == "__main__":
    main()
