"""The few numbers of a checkpoint that its own MLflow run shows, by names that mean the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass

from proofcard.documents.benchmark import Results
from proofcard.documents.evaluation import Evaluation
from proofcard.documents.manifest import Manifest
from proofcard.documents.serving import KnownAnswers
from proofcard.documents.tasks import TasksReport
from proofcard.documents.verification import Verification


@dataclass(frozen=True)
class Headline:
    """A number's name in MLflow, what it says, and how it is written."""

    name: str
    title: str
    written: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.2f}%".replace(".00%", "%")


HEADLINES = (
    Headline("weights_proved", "share of the quantized linears whose bytes follow from the source", _percent),
    Headline("known_answers", "share of the known-answer questions answered right when served", _percent),
    Headline("kl_", "mean KL divergence from the source, nats per position", lambda v: f"{v:.3g}"),
    Headline("top1_agreement", "share of positions with the source's most likely token", _percent),
    Headline("ppl_ratio", "perplexity as a multiple of the source's", lambda v: f"{v:.4f}"),
    Headline("task_recovery", "lowest score of a task as a share of the reference's", _percent),
    Headline("tokens_per_s", "highest throughput of all users together", lambda v: f"{v:,.1f}"),
    Headline("size_gb", "size of all sealed files, 10⁹ bytes", lambda v: f"{v:.4g}"),
)
"""In the order in which they are shown. `kl_` goes on with what was quantized, as in `kl_w4a4_kv`."""


def headline_of(name: str) -> Headline:
    """What a metric's name stands for.

    Raises:
        KeyError: when it is the name of no headline.
    """
    for each in HEADLINES:
        if name == each.name or (each.name.endswith("_") and name.startswith(each.name)):
            return each
    raise KeyError(name)


def is_headline(name: str) -> bool:
    """Whether a metric is one of them."""
    try:
        headline_of(name)
    except KeyError:
        return False
    return True


def of_manifest(sealed: Manifest) -> dict[str, float]:
    """The size of a checkpoint."""
    return {"size_gb": sum(file.size for file in sealed.outputs.files.values()) / 1e9}


def of_verification(found: Verification) -> dict[str, float]:
    """How much of the weights was proved; nothing if that was not requested or could not be checked."""
    level = found.levels.get("weights")
    if level is None or level.result not in ("holds", "differs"):
        return {}
    linears = level.counts.get("quantized linears", 0)
    if level.result == "holds":
        return {"weights_proved": 1.0}
    return {"weights_proved": max(0.0, 1 - level.differences.total / linears) if linears else 0.0}


def of_known_answers(known: KnownAnswers) -> dict[str, float]:
    """The share of right answers."""
    return {"known_answers": known.passed / len(known.verdicts)} if known.verdicts else {}


def of_evaluation(found: Evaluation) -> dict[str, float]:
    """Fidelity of all that was quantized: the last candidate's."""
    last = next(stream for stream in found.streams if stream.name == found.last)
    numbers = last.all.numbers
    return {
        f"kl_{plain(found.last)}": numbers["kl_mean"].value,
        "top1_agreement": numbers["same_top"].value,
        "ppl_ratio": numbers["perplexity_ratio"].value,
    }


def of_benchmark(found: Results) -> dict[str, float]:
    """The highest throughput of any number of users."""
    rates = [level.tokens_per_s.mean for level in found.levels if level.tokens_per_s is not None]
    return {"tokens_per_s": max(rates)} if rates else {}


def of_tasks(found: TasksReport) -> dict[str, float]:
    """The task that lost most."""
    kept = [each.recovery.value for each in found.tasks.values() if each.recovery is not None]
    return {"task_recovery": min(kept)} if kept else {}


def plain(name: str) -> str:
    """A name of ours as a part of a metric's: lower case, underscores."""
    words = "".join(letter if letter.isalnum() else " " for letter in name).split()
    return "_".join(words).lower()
