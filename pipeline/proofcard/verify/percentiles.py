"""Level `calibration` with unknown samples: are the scales plausible for given texts?

This proves nothing. The source model reads the given texts, and for every calibrated input the amax
behind its scale is placed among the largest magnitudes of each text: at the 100th percentile it
covers every text, at the 40th it would clip six of ten. Only what no calibration gives is a difference.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import json_files
from proofcard.calibration import tokenizer
from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.config.schema import Model
from proofcard.determinism import make_deterministic
from proofcard.errors import Stop, Usage
from proofcard.files import opened, plain, readable
from proofcard.progress import Bar
from proofcard.verify.report import Finding, Level

TEXTS, TOKENS = 32, 512
"""Texts that are read, and tokens of each."""

_INPUT, _CACHE = 6.0 * 448.0, 448.0  # what an amax is divided by
_FEWEST = 4  # texts that must reach an input before its scale is judged
_CLIPPED = 0.5  # of the median text's amax: less would clip nearly all of them
_WASTED = 16.0  # times the largest amax: more leaves four bits of the block scale unused
_LONGEST = 16 << 20  # bytes of one text


def check(folder: Path, source: Source, texts: Path) -> Level:
    """Place every calibrated scale of the checkpoint among the texts.

    Raises:
        Stop: when the texts cannot be read, or the model cannot be run layer by layer.
    """
    level = Level("calibration")
    amaxes = _stored(read_folder(folder))
    if not amaxes:
        level.unchecked.append("the checkpoint has no calibrated scales to check")
        return level
    samples = _tokens(texts, source, folder)
    level.counts["texts"] = len(samples)
    seen = _observed(source, sorted(amaxes), samples)
    places = {}
    for name, amax in sorted(amaxes.items()):
        magnitudes = seen.get(name)
        if magnitudes is None or np.count_nonzero(magnitudes) < _FEWEST:
            continue
        reached = magnitudes[magnitudes > 0]
        places[name] = float((reached <= amax).mean() * 100)
        if (fault := _fault(amax, reached)) is not None:
            level.add(Finding("mismatched", fault, tensor=name, found=f"amax {amax:.6g}"))
    level.counts["scales placed"] = len(places)
    level.unchecked.append(_summary(places, len(amaxes), len(samples)))
    return level


def _fault(amax: float, reached: np.ndarray) -> str | None:
    """Why no calibration with anything like these texts gives this amax."""
    if amax < _CLIPPED * float(np.median(reached)):
        return (
            f"implausible: its amax {amax:.6g} is less than half of the median text's "
            f"{np.median(reached):.6g}: nearly every text would be clipped"
        )
    if amax > _WASTED * float(reached.max()):
        return (
            f"implausible: its amax {amax:.6g} is more than {_WASTED:.0f} times the largest seen, "
            f"{reached.max():.6g}"
        )
    return None


def _summary(places: dict[str, float], scales: int, texts: int) -> str:
    if not places:
        return f"not proven, samples unknown: no scale was reached by {_FEWEST} of the {texts} texts"
    values = np.array(list(places.values()))
    lowest = min(places, key=lambda name: (places[name], name))
    return (
        f"not proven, samples unknown: plausible by percentile against {texts} given texts: "
        f"{len(places)} of {scales} scales placed, the median at the {np.median(values):.0f}th percentile, "
        f"the lowest, {plain(lowest)}, at the {places[lowest]:.0f}th"
    )


def _stored(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The amax behind each calibrated scale, by the scale's name, for every maker's naming."""
    amaxes = {}
    for name, tensor in tensors.items():
        leaf = name.rpartition(".")[2]
        if leaf not in ("input_scale", "input_global_scale", "k_scale", "v_scale") or tensor.size != 4:
            continue
        if tensor.dtype != "F32":
            continue
        value = float(tensor.raw().view("<f4")[0])
        if not np.isfinite(value) or value <= 0:
            raise Stop(f"{plain(name)} is {value}: see levels=[structure]")
        if leaf == "input_global_scale":
            amaxes[name] = _INPUT / value
        else:
            amaxes[name] = value * (_INPUT if leaf == "input_scale" else _CACHE)
    return amaxes


def _tokens(path: Path, source: Source, folder: Path) -> list[np.ndarray]:
    """Token ids of the first texts, int64 [1, tokens] each."""
    try:
        words = tokenizer.opened(source.path, {})
    except Usage:
        words = tokenizer.opened(folder, {})
    samples = []
    for text in _texts(path):
        ids = words(text)["input_ids"][:TOKENS]
        if len(ids) > 1:
            samples.append(np.array([ids], np.int64))
        if len(samples) == TEXTS:
            break
    if len(samples) < _FEWEST:
        raise Stop(f"texts={path} holds {len(samples)} texts, at least {_FEWEST} are needed")
    return samples


def _texts(path: Path) -> Iterator[str]:
    """The texts of a file: `text` of each JSON line, or each line that is not empty."""
    try:
        file = opened(path, None)
    except FileNotFoundError:
        raise Stop(f"texts={path} does not exist") from None
    with file, readable(path):
        while line := file.readline(_LONGEST):
            if path.suffix != ".jsonl":
                if text := line.decode("utf-8", errors="replace").strip():
                    yield text
                continue
            row = json_files.parse(line, f"a line of {path.name}")
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise Stop(f"texts={path}: each line needs a field `text`")
            yield row["text"]


def _observed(source: Source, names: list[str], samples: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The largest magnitude of each text, float64 [texts], by the name of the scale; 0 where none came."""
    make_deterministic(0, 0)
    import torch

    from proofcard.quantize.layerwise.hooks import intercepted, watching
    from proofcard.quantize.layerwise.stepper import Stepper
    from proofcard.quantize.layerwise.structure import layers_name
    from proofcard.quantize.model import skeleton

    model = Model(
        name="given", repository=None, revision=None, path=source.path, config=None, remote_code={},
        attn_implementation="sdpa",
    )  # fmt: skip
    bare = skeleton(source, model)
    prefix = layers_name(bare)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stepper = Stepper(source, bare, prefix, device)
    seen: dict[str, np.ndarray] = {}
    states: list[Any] = [None] * len(samples)

    def note(name: str, number: int, values: Any) -> None:
        if values.numel():
            row = seen.setdefault(name, np.zeros(len(samples)))
            row[number] = max(row[number], float(values.abs().max()))

    depth = len(bare.get_submodule(prefix))
    with Bar("reading texts", depth, "layers") as bar, torch.no_grad():
        for index in range(depth):
            inside = [name for name in names if name.startswith(f"{prefix}.{index}.")]
            stepper.load(index, stepper.read(index))
            for number, ids in enumerate(samples):
                batch = Batch(ids, np.ones_like(ids))
                with ExitStack() as stack:
                    for name in inside:
                        module, _, leaf = name.rpartition(".")
                        if leaf in ("k_scale", "v_scale"):
                            attention = stepper.modules[module.removesuffix(f".{leaf[0]}_proj")]
                            ways = [_nothing, _nothing]
                            ways["kv".index(leaf[0])] = partial(note, name, number)
                            stack.enter_context(intercepted(attention, *ways))
                        elif module in stepper.modules:
                            see = partial(_noted, note, name, number)
                            stack.enter_context(watching(stepper.modules, [module], see))
                    states[number] = stepper.run(states[number], batch, attention_mask=False)
            bar.advance()
        stepper.clear()
    return seen


def _noted(note: Any, name: str, number: int, _: str, values: Any) -> None:
    note(name, number, values)


def _nothing(_: Any) -> None:
    pass
