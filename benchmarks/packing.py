"""python benchmarks/packing.py [--experts 32] [--rows 1536] [--cols 3072] [--threads N] [--runs 5]

Packing speed beside ModelOpt's own, in one run on one machine: quantize from BF16 and from FP8, the two
amax passes, unpack, then `NVFP4QTensor.quantize` on a CPU over fewer experts. `floor` is the time that the
machine needs to copy as many bytes as the step must read and write; `% of floor` is how near it comes.
Every run checks that both give the same bytes.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

from proofcard import nvfp4


def timed(work: Callable[[], object], runs: int) -> list[float]:
    work()  # compiles, and touches every page once
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def copy_speed(threads: int, runs: int) -> float:
    """Bytes read plus bytes written in a second by plain copies, the best of several."""
    source = np.ones((threads, 128 << 20), np.uint8)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:
        best = min(timed(lambda: list(pool.map(np.copyto, target, source)), runs))
    return 2 * source.nbytes / best


def report(name: str, params: int, moved: int, seconds: list[float], speed: float) -> None:
    best, floor = min(seconds), moved / speed
    print(
        f"{name:<26}{1e3 * best:>9.1f}{1e3 * median(seconds):>9.1f}"
        f"{params / best / 1e9:>9.3f}{params / median(seconds) / 1e9:>9.3f}{100 * floor / best:>9.0f}%"
    )


def modelopt(bits: np.ndarray, scale_2: np.float32) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    import torch
    from modelopt.torch.quantization.qtensor import nvfp4_tensor

    nvfp4_tensor.fp4_compatible = lambda: False  # it asks a driver that may be missing
    weight, factor = torch.from_numpy(bits).view(torch.bfloat16), torch.tensor(scale_2)

    def quantize() -> tuple[np.ndarray, np.ndarray]:
        packed, scale, _ = nvfp4_tensor.NVFP4QTensor.quantize(weight, 16, weights_scaling_factor_2=factor)
        return packed._quantized_data.numpy(), scale.view(torch.uint8).numpy()

    return quantize


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--cols", type=int, default=3072)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    shape = (args.experts * args.rows, args.cols)
    threads, params, runs = args.threads, shape[0] * shape[1], args.runs

    rng = np.random.default_rng(0)
    fp8 = rng.integers(0, 256, shape, np.uint8)
    fp8[(fp8 & 0x7F) == 0x7F] = 0
    grid = [-(-size // side) for size, side in zip(shape, nvfp4.FP8_BLOCK, strict=True)]
    scale_inv = rng.uniform(1e-4, 2e-4, grid).astype(np.float32)
    bf16 = nvfp4.fp8_block_to_bf16(fp8, scale_inv, threads=threads)
    scale_2 = nvfp4.weight_scale_2(nvfp4.amax(bf16))
    packed, scale = nvfp4.quantize(bf16, scale_2)

    speed = copy_speed(threads, runs)
    print(f"{params / 1e6:.0f}e6 parameters, {threads} threads, copy {speed / 1e9:.1f} GB/s read + written")
    print(f"{'':<26}{'min ms':>9}{'median':>9}{'e9/s':>9}{'median':>9}{'floor':>10}")
    out = packed.nbytes + scale.nbytes

    def show(name: str, moved: int, work: Callable[[], object]) -> None:
        report(name, params, moved, timed(work, runs), speed)

    show("amax, BF16", bf16.nbytes, lambda: nvfp4.amax(bf16, threads=threads))
    show("amax, FP8", fp8.nbytes, lambda: nvfp4.amax_fp8(fp8, scale_inv, threads=threads))
    show("quantize, BF16", bf16.nbytes + out, lambda: nvfp4.quantize(bf16, scale_2, threads=threads))
    show(
        "quantize, FP8",
        fp8.nbytes + out,
        lambda: nvfp4.quantize_fp8(fp8, scale_inv, scale_2, threads=threads),
    )
    show("unpack", out + bf16.nbytes, lambda: nvfp4.dequantize(packed, scale, scale_2, threads=threads))

    few = max(1, args.experts // 16) * args.rows
    import torch

    torch.set_num_threads(threads)
    theirs = modelopt(bf16[:few], scale_2)
    seconds = timed(theirs, min(runs, 3))
    report("ModelOpt, BF16", few * args.cols, (bf16.nbytes + out) * few // shape[0], seconds, speed)
    same = all(
        np.array_equal(a, b)
        for ours in ((packed, scale), nvfp4.quantize_fp8(fp8, scale_inv, scale_2, threads=threads))
        for a, b in zip(theirs(), (ours[0][:few], ours[1][:few]), strict=True)
    )
    print("bytes equal to ModelOpt's" if same else "BYTES DIFFER FROM MODELOPT'S")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
