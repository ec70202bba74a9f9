"""python benchmarks/verify.py [--dir runs/verify-speed] [--experts 24] [--threads N] [--runs 5] [--keep]

`verify` from the page cache, a step at a time, beside what any check of the same files costs: one layer of
MiniMax-M2.7's width (16e6 parameters an expert) from FP8 and from BF16. For each step the best and the median
of several runs: seconds, CPU seconds, parameters by both, and bytes a second of the files that it reads.
Peak memory is that of the whole process, imports included. `model_signing` is timed where it is installed
(its `hashing`, which is what its verification does besides one signature), and ModelOpt's quantizer on one
weight. Exit status 1 when a level does not hold.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from packing import modelopt
from wide_source import make_source

from proofcard import nvfp4
from proofcard.checkpoint.shards import weight_files
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.digest import sha256_file
from proofcard.progress import silent
from proofcard.verify import weights
from proofcard.verify.inventory import fused_groups
from proofcard.verify.recompute import group_scale_2, quantize

HIDDEN, INNER, HEAD = 3072, 1536, 128


def write(folder: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """One shard with these tensors."""
    folder.mkdir()
    entries = [Entry(name, dtype, bits.shape) for name, (dtype, bits) in tensors.items()]
    with Writer(folder, layout(entries, 0)) as writer:
        writer.allocate()
        for name, (_, bits) in tensors.items():
            writer.write(name, bits)


def in_bf16(source: Source, folder: Path) -> None:
    """The same weights in BF16, with a configuration that names no quantization."""
    write(folder, {name: (source.dtype(name), source.bits(name)) for name in source.weights()})
    (folder / "config.json").write_text('{"model_type": "minimax_m2"}')


def packed(source: Source, folder: Path) -> None:
    """Its experts in NVFP4, everything else in BF16, without configurations: the tensors speak."""
    linears = [name.removesuffix(".weight") for name in source.weights() if ".experts." in name]
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for group in fused_groups(linears):
        shared = group_scale_2(source, group)
        for module in group:
            made = quantize(source, module, shared)
            tensors |= {
                f"{module}.{leaf}": (dtype, made[leaf])
                for leaf, dtype in (("weight", "U8"), ("weight_scale", "F8_E4M3"), ("weight_scale_2", "F32"))
            }
    others = (name for name in source.weights() if ".experts." not in name)
    tensors |= {name: (source.dtype(name), source.bits(name)) for name in others}
    write(folder, tensors)
    (folder / "config.json").write_text('{"model_type": "minimax_m2"}')


class Table:
    """One line for each step."""

    def __init__(self, parameters: int, runs: int) -> None:
        self._parameters, self._runs = parameters, runs
        print(f"{'':<30}{'best s':>8}{'median':>8}{'CPU s':>8}{'e9/s':>8}{'e9/CPU s':>10}{'GB/s':>8}")

    def time(self, name: str, size: int, work: Callable[[], object]) -> None:
        """Run the work several times and say how long it took."""
        work()
        seconds, cpu = [], []
        for _ in range(self._runs):
            before, started = os.times(), time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
            after = os.times()
            cpu.append(after.user + after.system - before.user - before.system)
        best, least = min(seconds), max(min(cpu), 0.01)
        print(
            f"{name:<30}{best:>8.3f}{median(seconds):>8.3f}{least:>8.2f}{self._parameters / best / 1e9:>8.2f}"
            f"{self._parameters / least / 1e9:>10.2f}{size / best / 1e9:>8.2f}"
        )


def side(table: Table, source_folder: Path, made: Path, threads: int) -> bool:
    """Every step of one pair; whether the weights hold."""
    both = [*weight_files(source_folder), *weight_files(made)]
    size = sum(path.stat().st_size for path in both)
    level = weights.check(made, Source(source_folder), threads, None)
    pool = ThreadPoolExecutor(threads)
    tensors = [tensor for folder in (source_folder, made) for tensor in Source(folder).tensors.values()]
    table.time(
        "read", size, lambda: list(pool.map(lambda tensor: sum(len(p) for p in tensor.pieces()), tensors))
    )
    table.time("sha256 of both", size, lambda: list(pool.map(sha256_file, both)))
    if find_spec("model_signing") is not None:
        from model_signing import hashing

        table.time("model_signing's hashing", size, lambda: [hashing.hash(f) for f in (source_folder, made)])
    table.time("verify, weights", size, lambda: weights.check(made, Source(source_folder), threads, None))
    return not level.findings and not level.unchecked and level.counts["quantized linears"] > 0


def start_up() -> None:
    """CPU seconds until the first linear is packed, without and with loops that an earlier run has kept."""
    code = (
        "import numpy as np; from proofcard import nvfp4; w = np.full((16, 16), 0x38, np.uint8);"
        "s = np.ones((1, 1), np.float32); nvfp4.amax_fp8(w, s); nvfp4.quantize_fp8(w, s, 1.0)"
    )
    for name, environment in (("compiled", {"XDG_CACHE_HOME": os.devnull}), ("kept", {})):
        for _ in range(2):
            before = os.times()
            subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | environment)
            after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"start-up, loops {name:<14}{spent:>8.2f} CPU s, imports included")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=Path("runs/verify-speed"))
    parser.add_argument("--experts", type=int, default=24)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    said = parser.parse_args()
    if not said.dir.exists():
        said.dir.mkdir(parents=True)
        make_source(said.dir / "fp8", 1, said.experts, HIDDEN, INNER, HEAD)
        in_bf16(Source(said.dir / "fp8"), said.dir / "bf16")
        for name in ("fp8", "bf16"):
            packed(Source(said.dir / name), said.dir / f"{name}-nvfp4")
    source = Source(said.dir / "bf16")
    parameters = sum(int(np.prod(source.tensors[name].shape)) for name in source.weights())
    print(f"{parameters / 1e6:.0f}e6 parameters, {said.threads} threads")
    start_up()
    held = True
    for name in ("fp8", "bf16"):
        print(f"\nfrom {name.upper()}")
        table = Table(parameters, said.runs)
        with silent():
            held &= side(table, said.dir / name, said.dir / f"{name}-nvfp4", said.threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory {peak:.2f} GiB")
    if find_spec("modelopt") is not None:
        weight = next(name for name in source.weights() if name.endswith("experts.0.w1.weight"))
        bits = source.bits(weight)
        theirs = modelopt(bits, nvfp4.weight_scale_2(nvfp4.amax(bits)))
        Table(bits.size, said.runs).time("ModelOpt's quantizer, BF16", bits.nbytes, theirs)
    if not said.keep:
        shutil.rmtree(said.dir)
    print("every weight holds" if held else "A LEVEL DOES NOT HOLD")
    raise SystemExit(not held)


if __name__ == "__main__":
    main()
