"""How a checkpoint can be run, by name: `w4a16`, `w4a4`, and either with a format of the KV cache.

| name | weights | activations of quantized linears | KV cache |
|---|---|---|---|
| `w4a16` | the checkpoint's | as the model computes them | as the model computes it |
| `w4a4` | the checkpoint's | NVFP4 with the stored `input_scale` | as the model computes it |
| `…+kv` | | | FP8 with the stored scales; an affine cache's biases dropped, as engines run it |
| `…+kv_affine` | | | FP8 of what is left of the stored biases, which are added again |
| `…+kv_one` | | | FP8 with scales of 1, as engines run a cache without scales |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proofcard.config.evaluating import CANDIDATE

_WEIGHTS_ONLY = "and this checkpoint does not store them (its weights alone are quantized)"


@dataclass(frozen=True)
class Candidate:
    """One way to run the checkpoint. `kv` is None, `kv`, `kv_affine` or `kv_one`."""

    activations: bool
    kv: str | None

    @property
    def name(self) -> str:
        """Its name, as a configuration writes it."""
        base = "w4a4" if self.activations else "w4a16"
        return f"{base}+{self.kv}" if self.kv else base


@dataclass(frozen=True)
class Stored:
    """What a checkpoint stores beside its weights: scales of activations, of the KV cache, biases of it."""

    input_scales: bool
    kv_scales: bool
    kv_biases: bool


@dataclass(frozen=True)
class Step:
    """A line of the attribution: what `cost` is the difference of, from one candidate to another."""

    cost: str
    before: str | None
    after: str


def parsed(name: str) -> Candidate:
    """The candidate of a name that a configuration has checked."""
    match = CANDIDATE.fullmatch(name)
    assert match is not None
    return Candidate(match[1] == "w4a4", match[2])


def all_of(stored: Stored) -> tuple[Candidate, ...]:
    """Every candidate that a checkpoint has the scales for; the last one is how engines run it."""
    candidates = [Candidate(False, None)]
    if stored.input_scales:
        candidates.append(Candidate(True, None))
    last = candidates[-1].activations
    if stored.kv_biases:
        candidates.append(Candidate(last, "kv_affine"))
    if stored.kv_scales:
        candidates.append(Candidate(last, "kv"))
    return tuple(candidates)


def fault(candidate: Candidate, stored: Stored) -> str | None:
    """Why a checkpoint cannot be run as a candidate; None when it can."""
    if candidate.activations and not stored.input_scales:
        return f"{candidate.name} needs input scales, {_WEIGHTS_ONLY}: use w4a16"
    if candidate.kv == "kv" and not stored.kv_scales:
        return f"{candidate.name} needs k_scale and v_scale: use +kv_one, as engines run it without them"
    if candidate.kv == "kv_affine" and not stored.kv_biases:
        return f"{candidate.name} needs k_bias and v_bias, which only an affine KV cache has: use +kv"
    return None


def left_out(stored: Stored) -> str | None:
    """Why none of `all_of` quantizes activations; None when some do."""
    return None if stored.input_scales else f"w4a4 is left out: it needs input scales, {_WEIGHTS_ONLY}"


def attribution(candidates: Sequence[Candidate]) -> list[Step]:
    """What each part of the quantization costs, as differences of candidates that were run."""
    names = {candidate.name for candidate in candidates}
    steps = [Step("weights", None, "w4a16")] if "w4a16" in names else []
    if {"w4a16", "w4a4"} <= names:
        steps.append(Step("activations", "w4a16", "w4a4"))
    for base in ("w4a16", "w4a4"):
        steps += _of_the_cache(base, names)
    return steps


def _of_the_cache(base: str, names: Iterable[str]) -> list[Step]:
    names = set(names)
    costs = (
        ("KV cache, affine", base, f"{base}+kv_affine"),
        ("KV cache, biases dropped" if f"{base}+kv_affine" in names else "KV cache", base, f"{base}+kv"),
        ("KV cache, scales of 1", base, f"{base}+kv_one"),
        ("the dropped biases", f"{base}+kv_affine", f"{base}+kv"),
    )
    return [Step(cost, before, after) for cost, before, after in costs if {before, after} <= names]
