"""python benchmarks/layer.py [--device cpu] [--layers 2] [--batch 4] [--tokens 4096] [--steps 40]

Real-size MiniMax-M2.7 layers (hidden 3072, 256 experts of 1536, FP8, random weights) through
engine=layerwise: seconds of the first steps and of steady ones, each a routed and a forced pass, beside the
time of the forced pass's products at the machine's bare rate; peak memory; the projected hours of the whole
recipe. On a GPU the host is quick after about ten steps, and the screen answers for fewer experts the longer
a dataset lasts, 250 steps in the card's recipe: `--steps 250` shows the mean of one. Then engine=modelopt on
the same layers and batches, its time for a step, and whether both wrote the same bytes. `--modelopt no`
leaves it out; `--experts` takes fewer; `--dir` says where the weights go (3.8 GB a layer). On a CPU take few
tokens: --device cpu --layers 1 --batch 1 --tokens 64 --steps 1.
"""

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from wide_source import make_source, slot_by_slot

if TYPE_CHECKING:
    from proofcard.config import QuantizeConfig

LAYERS, STEPS = 62, 1250  # the card's model, and 5,000 samples of 4,096 tokens in batches of 4
HIDDEN, EXPERT = 3072, 1536
ALIKE = 32  # tokens that every sample begins with


class Clock:
    """Seconds spent in named parts, the device's work included."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def part(self, name: str, waits: bool = True) -> Iterator[None]:
        import torch

        wait = torch.cuda.synchronize if waits and torch.cuda.is_available() else lambda: None
        wait()
        start = time.perf_counter()
        yield
        wait()
        self.seconds[name].append(time.perf_counter() - start)

    def around(self, owner: type, method: str, name: str, waits: bool = True) -> None:
        """Time every call of a method; what runs beside the device's other work must not wait for that."""
        original = getattr(owner, method)

        def timed(*values: object, **named: object) -> object:
            with self.part(name, waits):
                return original(*values, **named)

        setattr(owner, method, timed)

    def steps(self, calibration: type, stepper: type) -> None:
        """Note when each step of a layer begins, and the end of the last; no step waits for the device."""
        begins: list[float] = []
        ends: list[float] = []
        calibrate, step = calibration.run, stepper.run  # type: ignore[attr-defined]

        def timed_layer(*values: object) -> object:
            begins.clear()
            done = calibrate(*values)
            times = [*begins[1:], time.perf_counter()]  # the first has two tokens: a block is recorded
            if ends:
                self.seconds["between"].append(times[0] - ends[-1])
            ends.append(times[-1])
            self.seconds["first"].append(times[1] - times[0])
            half = len(times) // 2
            self.seconds["steady"].append((times[-1] - times[half]) / (len(times) - 1 - half))
            self.seconds["mean"].append((times[-1] - times[0]) / (len(times) - 1))
            return done

        def timed_step(*values: object, **named: object) -> object:
            begins.append(time.perf_counter())
            return step(*values, **named)

        calibration.run, stepper.run = timed_layer, timed_step  # type: ignore[attr-defined]

    def best(self, name: str) -> float:
        """The least seconds of a call, the first left out when there are others: it warms up."""
        found = self.seconds[name]
        return min(found[1:] or found)


def product_rate(device: str) -> float:
    """FLOP a second of a large BF16 product."""
    import torch

    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    clock = Clock()
    for _ in range(10):
        with clock.part("product"):
            for _ in range(5):
                a @ b
    return 5 * 2 * size**3 / clock.best("product")


def arguments(text: str | None, numbers: dict[str, int]) -> argparse.ArgumentParser:
    """A parser of a benchmark's numbers with their defaults, its device and where weights go."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--set", nargs="*", default=[], help="settings of `quantize`: coverage=natural")
    return parser


def real_size(said: argparse.Namespace, folder: Path) -> "QuantizeConfig":
    """Real-size layers in `folder/source`, ModelOpt and torch made ready; the configuration for them."""
    from proofcard.config import QuantizeConfig, compose
    from proofcard.determinism import make_deterministic
    from proofcard.toolchain import activate, materialise

    make_source(folder / "source", said.layers, said.experts, HIDDEN, EXPERT, head_dim=128)
    overrides = [f"model.path={folder}/source", slot_by_slot(folder / "source"), f"hardware={said.device}"]
    overrides += ["model.attn_implementation=sdpa", "hardware.threads=0", "tracking=off", *said.set]
    config = compose(QuantizeConfig, "config", overrides)
    activate(materialise("fixed", folder / "tools"))
    make_deterministic(0, 0)
    return config


def main() -> None:
    parser = arguments(__doc__, {"layers": 2, "experts": 256, "batch": 4, "tokens": 4096, "steps": 40})
    parser.add_argument("--modelopt", choices=("yes", "no"), default="yes")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=said.dir) as folder:
        measure(said, Path(folder))


def measure(said: argparse.Namespace, folder: Path) -> None:
    from proofcard.calibration.batches import Batch
    from proofcard.checkpoint.source import Source
    from proofcard.ranks import Ranks

    config = real_size(said, folder)
    from proofcard.quantize.layerwise.calibrate import LayerCalibration
    from proofcard.quantize.layerwise.run import Run
    from proofcard.quantize.layerwise.stepper import Stepper

    source = Source(folder / "source")
    random = np.random.default_rng(1)
    shape = (said.batch, said.tokens)
    ones = np.ones(shape, np.int64)
    batches = [Batch(random.integers(0, 1024, shape), ones) for _ in range(said.steps)]
    for batch in batches:  # as chat templates do
        batch.input_ids[:, :ALIKE] = batches[0].input_ids[0, :ALIKE]
    clock = Clock()
    for method in ("_write_weights", "_write_scales", "_complete"):
        clock.around(Run, method, method, waits=False)
    clock.around(Stepper, "read", "read", waits=False)
    clock.steps(LayerCalibration, Stepper)
    ours, state = folder / "ours", folder / "state"
    ours.mkdir()
    state.mkdir()
    with clock.part("all"):
        Run(config, source, batches, said.device, ours, state, Ranks()).layers(lambda *_: None)
    report(said, clock, config.coverage.name == "all_experts")
    if said.modelopt == "yes":
        beside(said, clock, config, source, batches, folder)


def report(said: argparse.Namespace, clock: Clock, forced: bool) -> None:
    import torch

    rate = product_rate(said.device)
    tokens = said.batch * said.tokens
    flop = 2 * tokens * said.experts * 2 * HIDDEN * EXPERT
    first, steady, floor = clock.best("first"), clock.best("steady"), flop / rate
    means = clock.seconds["mean"]
    between = max(clock.seconds["between"] or [clock.best("_write_scales") + clock.best("_complete")])
    shape = f"{said.experts} experts, {said.batch} x {said.tokens} tokens"
    print(f"{said.layers} layers, {shape}, {said.steps} steps")
    print(f"product rate       {rate / 1e12:8.1f} TFLOP/s (BF16)")
    print(f"first step         {first:8.4f} s")
    print(
        f"steady steps       {steady:8.4f} s, routed and forced pass together: the second half of a layer's"
    )
    print(f"mean of all        {', '.join(f'{mean:.4f}' for mean in means)} s in each layer")
    print(f"floor              {floor:8.4f} s for the forced products alone; the gap {steady - floor:.4f} s")
    print(f"read, dequantize   {clock.best('read'):8.2f} s a layer, beside the layer before it on a GPU")
    print(f"pack, write        {clock.best('_write_weights'):8.2f} s a layer, beside its own steps on a GPU")
    print(f"between layers     {between:8.2f} s at most: what is left goes to disk, the next layer is probed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    gpu = torch.cuda.max_memory_allocated() / 2**30 if said.device == "cuda" else 0.0
    print(f"peak memory        {peak:8.1f} GiB host, {gpu:.1f} GiB GPU")
    print(
        f"whole recipe ({LAYERS} layers of {STEPS} steps), if all were like the last layer's mean, or steady:"
    )
    for gpus in (1, 2, 8):
        hours = (LAYERS * (STEPS / gpus * step + between) / 3600 for step in (means[-1], steady))
        print(f"  {gpus} x this        {' h, '.join(f'{each:8.2f}' for each in hours)} h")


def beside(
    said: argparse.Namespace, clock: Clock, config: object, source: object, batches: list, folder: Path
) -> None:
    """engine=modelopt on the same layers, whole in memory and in BF16, which spares it dequantization."""
    import torch

    from proofcard.quantize import modelopt
    from proofcard.quantize.model import load

    if said.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = load(source, config.model, said.device)  # type: ignore[arg-type, attr-defined]
    seconds: list[float] = []
    model = modelopt.calibrate(model, batches, config, lambda _samples, _tokens, took: seconds.append(took))  # type: ignore[arg-type]
    theirs = min(seconds[1:] or seconds) / said.layers
    mine = clock.best("steady")
    print(
        f"engine=modelopt    {theirs:8.4f} s a step and layer, weights in BF16; "
        f"ours {mine:.4f} s: {theirs / mine:.1f} times"
    )
    with clock.part("export"):
        modelopt.export(model, folder / "theirs")
    print(f"its export         {clock.best('export') / said.layers:8.2f} s a layer")
    names = sorted(path.name for path in (folder / "theirs").glob("*.safetensors*"))
    differing = [
        n for n in names if (folder / "ours" / n).read_bytes() != (folder / "theirs" / n).read_bytes()
    ]
    print(f"bytes              {'equal' if not differing else 'DIFFERENT: ' + ', '.join(differing)}")
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
