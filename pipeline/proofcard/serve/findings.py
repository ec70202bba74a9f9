"""Problems that are known before an engine is started: errors and warnings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from proofcard.errors import Usage
from proofcard.progress import console

Name = Literal[
    "gpu_missing", "driver_too_old", "gpus_too_few",
    "fp4_unsupported", "fp4_backend_unsupported", "fp4_emulated", "fp4_unused", "moe_backend_unsupported",
    "attention_backend_replaced", "attention_backend_unsupported", "determinism_not_guaranteed",
    "prefix_cache_disabled", "fusion_has_no_effect",
    "kv_dtype_refused", "kv_bias_unsupported", "kv_scale_missing", "kv_bias_dropped",
    "heads_indivisible", "kv_heads_indivisible", "experts_indivisible", "expert_width_indivisible",
    "ep_size_unsupported",
    "gpu_in_use", "weights_too_large", "context_too_long", "kv_cache_too_small", "requests_queue",
    "reasoning_parser_unfit",
    "flag_unknown", "flag_ambiguous", "flag_invalid", "flag_abbreviated", "flag_deprecated",
    "variable_unread",
]  # fmt: skip
"""What a problem is called where its sentence may change: claims files refer to these names."""
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class Finding:
    """One sentence: what is wrong and what to do. `refuses`: the engine must not be started."""

    name: Name
    refuses: bool
    sentence: str


def refusal(name: Name, sentence: str) -> Finding:
    """A problem that prevents a start."""
    return Finding(name, True, sentence)


def warning(name: Name, sentence: str) -> Finding:
    """A problem that changes what was requested."""
    return Finding(name, False, sentence)


def report(findings: Iterable[Finding]) -> list[str]:
    """Print every finding and return the warnings.

    Raises:
        Usage: with the first refusal, when there is one.
    """
    found = list(findings)
    refusals = [finding.sentence for finding in found if finding.refuses]
    warnings = [finding.sentence for finding in found if not finding.refuses]
    for sentence in refusals[1:]:
        console.print(f"refused: {sentence}", soft_wrap=True)
    for sentence in warnings:
        console.print(f"warning: {sentence}", soft_wrap=True)
    if refusals:
        raise Usage(refusals[0])
    return warnings
