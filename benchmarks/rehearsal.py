"""python benchmarks/rehearsal.py [--dir runs/rehearsal] [--layers 2] [--samples 1] [--keep]

The real recipe's work at its real width on this machine: MiniMax-M2.7 layers (hidden 3072, 256 experts of
1536, 48 query and 8 key heads of 128, FP8 with 128 × 128 scales, random weights) through the commands
`quantize` and `verify` as a user types them. Once with eight tokens a sample, which leaves reading, packing
and writing, and once with samples of the demo's length. Tells seconds and peak memory of every part, bytes
read and written beside the disk's own rate, and what the 62 layers would take; checks that the inventory is
what `plan` has said it would be. Exit status 1 when anything does not hold.

Wants 4 GB of disk a layer for the source and 2.4 for each of two checkpoints; only the report stays.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from wide_source import make_source

LAYERS, EXPERTS, HIDDEN, INNER, HEAD = 62, 256, 3072, 1536, 128
MEMORY = 24.0  # GiB: the class of machine that must be enough
PROBE = 1 << 30  # bytes written and read back to learn the disk's own rate
DATASETS = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
            "llama_nemotron")  # fmt: skip


@dataclass
class Ran:
    """A command's seconds, its peak memory with children in GiB, its bytes to and from disk, what it said.

    Memory counts pages of mapped files that happen to be in memory, which the system takes back at need.
    """

    seconds: float
    peak_gib: float
    read_bytes: int
    written_bytes: int
    said: str

    def layers(self) -> list[float]:
        """Seconds of each layer, as the command told them."""
        return [float(found) for found in re.findall(r"^layer \d+/\d+: ([\d.]+) s", self.said, re.M)]

    def tokens_per_second(self) -> list[int]:
        return [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) tokens/s", self.said) if found]


def run(*words: str) -> Ran:
    """One of our console commands, watched until it ends. Raises SystemExit, with what it said."""
    started = time.perf_counter()
    command = [str(Path(sys.executable).parent / "proofcard"), *words]
    peak, disk = 0, {"read_bytes": 0, "write_bytes": 0}
    with psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            try:
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(most(member.pid) for member in family))
                counters = process.io_counters()
                disk = {name: getattr(counters, name) for name in disk}
            except (psutil.NoSuchProcess, FileNotFoundError):
                pass
            time.sleep(1)
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\n{said}")
    seconds = time.perf_counter() - started
    return Ran(seconds, peak / 2**30, disk["read_bytes"], disk["write_bytes"], said)


def most(pid: int) -> int:
    """The most memory that a process has had so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def disk_rates(folder: Path) -> dict[str, float]:
    """Bytes a second of a plain sequential file, forced to disk and read back past the cache."""
    path = folder / "probe"
    block = os.urandom(1 << 24)
    with path.open("wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(PROBE // len(block)):
            file.write(block)
        os.fsync(file.fileno())
        written = PROBE / (time.perf_counter() - started)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with path.open("rb", buffering=0) as file:
        started = time.perf_counter()
        while file.read(1 << 24):
            pass
        read = PROBE / (time.perf_counter() - started)
    path.unlink()
    return {"write": written, "read": read}


def expected(plan: dict) -> dict[str, int]:
    """What `plan` has counted before any weight was read: tensors of the export, quantizers to calibrate."""
    return {"tensors": plan["export"]["tensors"], "quantizers": plan["quantizers"]["enabled"]}


def rehearse(folder: Path, layers: int, samples: int) -> dict:
    source = folder / "source"
    started = time.perf_counter()
    make_source(source, layers, EXPERTS, HIDDEN, INNER, head_dim=HEAD)
    made = time.perf_counter() - started
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    rates = disk_rates(folder)
    base = [f"model.path={source}", "model.attn_implementation=sdpa", "hardware.device=cpu", "tracking=off",
            f"work_dir={folder}/work"]  # fmt: skip
    checkpoints = {"bare": folder / "bare", "calibrated": folder / "checkpoint"}
    chosen = {"bare": [1, "calibration.sequence_length=8"], "calibrated": [samples]}
    plan = folder / "plan.json"
    ran = {"plan": run("plan", *base, f"report={plan}")}
    for name, (count, *more) in chosen.items():
        each = [f"calibration.datasets.{dataset}.samples={count}" for dataset in DATASETS]
        ran[name] = run("quantize", *base, *each, *more, f"output_dir={checkpoints[name]}")
    ran["verify"] = run("verify", f"checkpoint={checkpoints['calibrated']}", f"source={source}")
    sealed = json.loads((checkpoints["calibrated"] / "manifest.json").read_text())
    levels = json.loads((folder / "checkpoint.verification.json").read_text())
    bare, calibrated = ran["bare"].layers(), ran["calibrated"].layers()
    return {
        "layers": layers,
        "source_bytes": size,
        "source_seconds": made,
        "disk_bytes_per_second": rates,
        "samples": sealed["statistics"]["samples"],
        "tokens": sealed["statistics"]["tokens"],
        "positions": sealed["statistics"]["positions"],
        "checkpoint_bytes": sum(file["size"] for file in sealed["outputs"]["files"].values()),
        "commands": {
            name: {k: v for k, v in asdict(one).items() if k != "said"} for name, one in ran.items()
        },
        "bare_layer_seconds": bare,
        "calibrated_layer_seconds": calibrated,
        "tokens_per_second": ran["calibrated"].tokens_per_second(),
        "bare_hours_of_62_layers": LAYERS * max(bare) / 3600,
        "verify_hours_of_62_layers": LAYERS / layers * ran["verify"].seconds / 3600,
        "inventory": {
            "found": {name: sealed["statistics"][name] for name in ("tensors", "quantizers")},
            "expected": expected(json.loads(plan.read_text())),
        },
        "verification": {name: level["result"] for name, level in levels["levels"].items()},
    }


def faults(told: dict) -> list[str]:
    """What does not hold, in words."""
    found = []
    inventory = told["inventory"]
    if inventory["found"] != inventory["expected"]:
        found.append(f"the inventory is {inventory['found']}, expected {inventory['expected']}")
    found += [f"{name}: {result}" for name, result in told["verification"].items() if result != "holds"]
    for name, one in told["commands"].items():
        if one["peak_gib"] > MEMORY:
            found.append(f"{name} took {one['peak_gib']:.1f} GiB, more than {MEMORY:.0f}")
    return found


def show(told: dict, console: Console) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("command", "seconds", "peak GiB", "read GB", "written GB", "seconds a layer"):
        table.add_column(heading, justify="left" if heading == "command" else "right")
    seconds = {"bare": told["bare_layer_seconds"], "calibrated": told["calibrated_layer_seconds"]}
    for name, one in told["commands"].items():
        each = ", ".join(f"{value:.1f}" for value in seconds.get(name, [])) or "–"
        moved = [f"{one[key] / 1e9:.1f}" for key in ("read_bytes", "written_bytes")]
        table.add_row(name, f"{one['seconds']:.0f}", f"{one['peak_gib']:.1f}", *moved, each)
    console.print(table)
    rates = told["disk_bytes_per_second"]
    console.print(
        f"source      {told['source_bytes'] / 1e9:.2f} GB in {told['layers']} layers, made in "
        f"{told['source_seconds']:.0f} s\n"
        f"disk        reads {rates['read'] / 1e9:.2f} GB/s, writes {rates['write'] / 1e9:.2f} GB/s\n"
        f"samples     {told['samples']}, {told['tokens']} tokens, {told['positions']} positions; "
        f"{', '.join(map(str, told['tokens_per_second']))} tokens/s by layer\n"
        f"inventory   {told['inventory']['found']['tensors']} tensors, "
        f"{told['inventory']['found']['quantizers']} quantizers, as the plan says: "
        f"{told['inventory']['found'] == told['inventory']['expected']}\n"
        f"verify      {', '.join(f'{name} {result}' for name, result in told['verification'].items())}\n"
        f"62 layers   reading, packing, writing {told['bare_hours_of_62_layers']:.1f} h on this machine, "
        f"verify {told['verify_hours_of_62_layers']:.1f} h",
        soft_wrap=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=Path("runs/rehearsal"))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1, help="of each of the five datasets")
    parser.add_argument("--keep", action="store_true", help="leave source and checkpoints")
    said = parser.parse_args()
    folder = said.dir.resolve()
    work = folder / "files"
    shutil.rmtree(work, ignore_errors=True)  # of a rehearsal that was interrupted
    work.mkdir(parents=True)
    needed = said.layers * (3.8e9 + 2 * 2.3e9) + 1.2e9
    if shutil.disk_usage(work).free < needed:
        raise SystemExit(f"{folder} has less than {needed / 1e9:.0f} GB free: choose another with --dir")
    try:
        told = rehearse(work, said.layers, said.samples)
    finally:
        if not said.keep:
            shutil.rmtree(work)
    (folder / "rehearsal.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    show(told, Console(highlight=False))
    for fault in (wrong := faults(told)):
        print(f"rehearsal: {fault}", file=sys.stderr)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
