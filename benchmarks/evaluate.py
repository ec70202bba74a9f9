"""python benchmarks/evaluate.py [--device cpu] [--layers 2] [--texts 32] [--tokens 2048] [--together 32]

Real-size MiniMax-M2.7 layers (hidden 3072, 256 experts of 1536, FP8, random weights) and their NVFP4,
side by side: seconds of a text in a layer with every stream of an evaluation, `--together` texts at a
time, seconds to read a layer's weights of both, peak memory, seconds of the logits' divergence over
200,064 words, and the minutes of 62 layers and 100 texts that follow. Reading is behind the GPU's work
when it is quicker. `--experts` takes fewer; `--dir` says where the weights go (5.8 GB a layer). On a CPU
take few tokens: --device cpu --layers 1 --experts 16 --texts 2 --tokens 64.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from layer import LAYERS, Clock, arguments, real_size

WORDS, TEXTS = 200_064, 100


def main() -> None:
    numbers = {"layers": 2, "experts": 256, "texts": 32, "tokens": 2048, "together": 32}
    said = arguments(__doc__, numbers).parse_args()
    with tempfile.TemporaryDirectory(dir=said.dir) as folder:
        measure(said, Path(folder))


def measure(said: argparse.Namespace, folder: Path) -> None:
    import torch

    from proofcard.calibration.batches import Batch
    from proofcard.checkpoint.source import Source
    from proofcard.evaluate.candidates import all_of
    from proofcard.evaluate.compute import computes, hidden_of
    from proofcard.evaluate.streams import streams
    from proofcard.evaluate.weights import Checkpoint
    from proofcard.ranks import Ranks

    config = real_size(said, folder)
    from proofcard.evaluate.layer_sums import LayerSums
    from proofcard.evaluate.passes import Pass
    from proofcard.quantize.layerwise.run import Run
    from proofcard.quantize.layerwise.stepper import Stepper

    source, random = Source(folder / "source"), np.random.default_rng(1)

    def text(length: int) -> Batch:
        return Batch(random.integers(0, 1024, (1, length)), np.ones((1, length), np.int64))

    made, state, passing = folder / "made", folder / "state", folder / "pass"
    for each in (made, state, passing):
        each.mkdir()
    Run(config, source, [text(64)], said.device, made, state, Ranks()).layers(lambda *_: None)
    (made / "config.json").write_text(checkpoint_config(folder / "source", made))
    if said.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    clock = Clock()
    clock.around(LayerSums, "add", "group")
    clock.around(Pass, "_load", "load")
    clock.around(Stepper, "read", "read", waits=False)
    checkpoint = Checkpoint(made)
    runs = streams(all_of(checkpoint.holds()), cells=True)
    own, theirs = computes(source, checkpoint, config.model, said.device)
    texts = [text(said.tokens) for _ in range(said.texts)]
    memory = 16 << 30
    running_at = Pass(
        own, theirs, checkpoint, runs, texts, passing, hidden_of(source, own.stepper), memory, Ranks(),
        said.together,
    )  # fmt: skip
    running_at.run(lambda *_: None)
    report(said, clock, len(runs), logits(said))


def checkpoint_config(source: Path, made: Path) -> str:
    """The source's config.json with what the run says of its quantization."""
    import json

    plain = json.loads((source / "config.json").read_text())
    return json.dumps(plain | json.loads((made / "config.json").read_text()))


def logits(said: argparse.Namespace) -> float:
    """Seconds of a text's divergence over the real vocabulary, for one stream."""
    import torch

    from proofcard.evaluate import divergence

    pair = [torch.randn(said.tokens, WORDS, dtype=torch.bfloat16, device=said.device) for _ in range(2)]
    targets = torch.randint(0, WORDS, (said.tokens,), device=said.device)
    clock = Clock()
    for _ in range(3):
        with clock.part("logits"):
            divergence.between(*pair, targets)
    return clock.best("logits")


def report(said: argparse.Namespace, clock: Clock, streams: int, words: float) -> None:
    import torch

    each = clock.best("group") / min(said.together, said.texts)
    reads = clock.seconds["read"]
    both = min(a + b for a, b in zip(reads[::2], reads[1::2], strict=True))
    load = clock.best("load")
    print(
        f"{said.layers} layers, {said.experts} experts, {said.texts} texts of {said.tokens} tokens, "
        f"{streams} streams"
    )
    print(
        f"text in a layer    {each:8.3f} s, {each / (streams + 1):.3f} s a stream (the source's layer twice)"
    )
    print(f"read, dequantize   {both:8.2f} s a layer, source and checkpoint")
    print(f"load               {load:8.2f} s a layer")
    print(f"logits             {words:8.3f} s a text and stream, {WORDS:,} words")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    gpu = torch.cuda.max_memory_allocated() / 2**30 if said.device == "cuda" else 0.0
    print(f"peak memory        {peak:8.1f} GiB host, {gpu:.1f} GiB GPU")
    work = TEXTS * each * 2048 / said.tokens if said.device == "cpu" else TEXTS * each
    layer = load + (max(work, both) if said.device == "cuda" else work + both)
    total = LAYERS * layer + TEXTS * (streams - 1) * words
    print(f"{LAYERS} layers, {TEXTS} texts: {total / 60:.1f} minutes; reading alone {LAYERS * both / 60:.1f}")


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"({time.perf_counter() - start:.0f} s in all)")
