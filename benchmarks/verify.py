"""python benchmarks/verify.py [--dir DIR] [--layers 1] [--experts 24] [--threads N] [--runs 5] [--keep]

`verify` from the page cache, a step at a time and whole, beside what any check of the same files costs:
layers of MiniMax-M2.7's width (16e6 parameters an expert) from FP8 and from BF16, each with its sealed
checkpoint. For each step the best and the median of several runs: seconds, CPU seconds, parameters by both,
and bytes a second of the files that it is about. `model_signing` verifies both folders where it is
installed; ModelOpt's quantizer has one weight. "the command" is `proofcard verify` from the start of its
process to its end.

The floor is what this machine needs, in this run, to hash the sealed files once and to read all files once,
on as many threads; what the levels take beyond it is packing and comparing. With --keep the folder stays,
and is used again. Exit status 1 when a level does not hold.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from packing import modelopt
from wide_checkpoint import make_checkpoint
from wide_source import make_source

from proofcard import nvfp4
from proofcard.checkpoint.shards import weight_files
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.config.schema import VerifyConfig
from proofcard.digest import sha256_file
from proofcard.progress import silent
from proofcard.verify import integrity, outcome_of, structure, weights

HIDDEN, INNER, HEAD = 3072, 1536, 128
LEVELS = ("integrity", "structure", "weights")


def in_bf16(source: Source, folder: Path) -> None:
    """The same model in BF16."""
    folder.mkdir()
    entries = [Entry(name, source.dtype(name), source.tensors[name].shape) for name in source.weights()]
    with Writer(folder, layout(entries, 0)) as writer:
        writer.allocate()
        for entry in entries:
            writer.write(entry.name, source.bits(entry.name))
    for path in source.path.iterdir():
        if path.suffix in (".py", ".json", ".jinja") and "index" not in path.name:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))


class Table:
    """One line for each step."""

    def __init__(self, parameters: int, runs: int) -> None:
        self._parameters, self._runs = parameters, runs
        print(f"{'':<34}{'best s':>8}{'median':>8}{'CPU s':>8}{'e9/s':>8}{'e9/CPU s':>10}{'GB/s':>8}")

    def time(self, name: str, size: int, work: Callable[[], object]) -> tuple[float, float]:
        """Run the work several times and say how long it took: best seconds, least CPU seconds."""
        work()
        seconds, cpu = [], []
        for _ in range(self._runs):
            before, started = used(), time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
            cpu.append(used() - before)
        best, least = min(seconds), max(min(cpu), 0.001)
        print(
            f"{name:<34}{best:>8.3f}{median(seconds):>8.3f}{least:>8.3f}{self._parameters / best / 1e9:>8.2f}"
            f"{self._parameters / least / 1e9:>10.2f}{size / best / 1e9:>8.2f}"
        )
        return best, least


def used() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def side(table: Table, source_folder: Path, made: Path, threads: int) -> bool:
    """Every step of one pair; whether every level holds."""
    source_files, sealed = weight_files(source_folder), weight_files(made)
    size, sealed_size = (
        sum(path.stat().st_size for path in files) for files in (source_files + sealed, sealed)
    )
    config = VerifyConfig.model_validate(
        {"checkpoint": made, "source": source_folder, "levels": LEVELS, "report": None}
    )
    outcome, _ = outcome_of(config)
    pool, seal = ThreadPoolExecutor(threads), integrity.Seal(made)
    _, reading = table.time("read all", size, lambda: list(pool.map(read, source_files + sealed)))
    _, hashing = table.time("sha256 of the sealed", sealed_size, lambda: list(pool.map(sha256_file, sealed)))
    table.time("sha256 of all", size, lambda: list(pool.map(sha256_file, source_files + sealed)))
    if find_spec("model_signing") is not None:
        table.time("model_signing verify, both", size, signed(source_folder, made))
    table.time("integrity alone", sealed_size, lambda: integrity.check(made, seal, threads))
    table.time(
        "structure alone", sealed_size, lambda: structure.check(made, Source(source_folder), seal.body)
    )
    table.time("weights alone", size, lambda: weights.check(made, Source(source_folder), threads, seal.body))
    best, _ = table.time("all three levels", size, lambda: outcome_of(config))
    command = partial(whole_command, made, source_folder)
    table.time("the command", size, command)
    floor = (hashing + reading) / threads
    print(
        f"floor {floor:.3f} s, {best / floor:.2f} times of it; the command's peak memory {command():.2f} GiB"
    )
    return outcome.result == "verified"


def read(path: Path) -> None:
    """Read a file in pieces into the same memory."""
    piece = bytearray(1 << 22)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def signed(*folders: Path) -> Callable[[], object]:
    """The verification by `model_signing` of folders that are signed here with a key made here."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import signing, verifying

    beside = folders[0].parent
    key, private, public = ec.generate_private_key(ec.SECP256R1()), beside / "key.pem", beside / "public.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, form))
    signatures = {folder: beside / f"{folder.name}.sig" for folder in folders}
    for folder, path in signatures.items():
        signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, path)
    check = verifying.Config().use_elliptic_key_verifier(public_key=public)
    return lambda: [check.verify(folder, path) for folder, path in signatures.items()]


def whole_command(made: Path, source: Path) -> float:
    """`proofcard verify` as a process of its own; its peak memory in GiB."""
    code = "import sys; from proofcard.cli import main; sys.exit(main())"
    said = [
        f"checkpoint={made}",
        f"source={source}",
        f"report={made.parent / 'report.json'}",
        "tracking=off",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "verify", *said], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"proofcard verify ended with {process.returncode}")
    return usage.ru_maxrss / 2**20


def start_up() -> None:
    """CPU seconds until the first linear is compared, without and with loops that an earlier run has kept."""
    code = (
        "import numpy as np; from proofcard.nvfp4.matching import match_fp8;"
        "w = np.full((16, 16), 0x38, np.uint8);"
        "match_fp8(w, np.ones((1, 1), np.float32), 1.0, w[:, :8], w[:, :1])"
    )
    for name, environment in (("compiled", {"XDG_CACHE_HOME": os.devnull}), ("kept", {})):
        for _ in range(2):
            before = used()
            subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | environment)
            spent = used() - before
        print(f"start-up, loops {name:<18}{spent:>8.2f} CPU s, imports included")


def made_in(folder: Path, layers: int, experts: int) -> None:
    """Both sources and both checkpoints."""
    folder.mkdir(parents=True)
    make_source(folder / "fp8", layers, experts, HIDDEN, INNER, HEAD)
    in_bf16(Source(folder / "fp8"), folder / "bf16")
    for name in ("fp8", "bf16"):
        make_checkpoint(Source(folder / name), folder / f"{name}-nvfp4")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=Path("runs/verify-speed"))
    numbers: dict[str, Any] = {"layers": 1, "experts": 24, "threads": len(os.sched_getaffinity(0)), "runs": 5}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", action="store_true")
    said = parser.parse_args()
    folder = said.dir.absolute()
    if not folder.exists():
        made_in(folder, said.layers, said.experts)
    source = Source(folder / "bf16")
    parameters = sum(int(np.prod(source.tensors[name].shape)) for name in source.weights())
    print(f"{parameters / 1e6:.0f}e6 parameters, {said.threads} threads")
    start_up()
    held = True
    for name in ("fp8", "bf16"):
        print(f"\nfrom {name.upper()}")
        table = Table(parameters, said.runs)
        with silent():
            held &= side(table, folder / name, folder / f"{name}-nvfp4", said.threads)
    if find_spec("modelopt") is not None:
        weight = next(name for name in source.weights() if name.endswith("experts.0.w1.weight"))
        bits = source.bits(weight)
        theirs = modelopt(bits, nvfp4.weight_scale_2(nvfp4.amax(bits)))
        print()
        Table(bits.size, said.runs).time("ModelOpt's quantizer, BF16", bits.nbytes, theirs)
    if not said.keep:
        shutil.rmtree(folder)
    print("every level holds" if held else "A LEVEL DOES NOT HOLD")
    raise SystemExit(not held)


if __name__ == "__main__":
    main()
