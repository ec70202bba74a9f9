"""How many different answers there were, and where they part."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from scipy import stats

from proofcard.documents.repeat import Difference, Finding, Phase, Variant
from proofcard.documents.tasks import Range
from proofcard.errors import Stop, Usage
from proofcard.files import read_bytes
from proofcard.repeat.asking import Answers

Tokens = Callable[[str], list[int]]
_TOKENIZER = 128 << 20  # bytes; the largest tokenizer.json of a known model has 35 MB


def usual(alone: Answers, loaded: Answers) -> str | None:
    """The most frequent answer of both phases, of equally frequent ones the first."""
    counted = Counter([*alone.texts, *loaded.texts])
    return counted.most_common(1)[0][0] if counted else None


def phase(answers: Answers, usual: str | None, confidence: float, tokens: Tokens | None) -> Phase:
    """The answers of one phase beside the usual one."""
    others = {text for text in answers.texts if text != usual}
    parted = [each for text in others if (each := first_difference(text, usual or "", tokens)) is not None]
    return Phase(
        requests=len(answers.texts) + len(answers.failures),
        failed=len(answers.failures),
        first_failure=answers.failures[0] if answers.failures else None,
        distinct=len(set(answers.texts)),
        same=_same(answers.texts.count(usual), len(answers.texts), confidence) if usual is not None else None,
        first=min(parted, key=lambda each: each.character, default=None),
    )


def variants(alone: Answers, loaded: Answers, usual: str | None, tokens: Tokens | None) -> list[Variant]:
    """Every different answer, the usual one first."""
    counts = Counter([*alone.texts, *loaded.texts])
    return [
        Variant(
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            characters=len(text),
            alone=alone.texts.count(text),
            loaded=loaded.texts.count(text),
            first=first_difference(text, usual or "", tokens),
        )
        for text, _ in counts.most_common()
    ]


def finding(phases: list[Phase], distinct: int) -> Finding:
    """Two answers refute it; one proves it only where every request was answered."""
    if distinct > 1:
        return "NOT REPEATABLE"
    return "NOT SHOWN" if any(each.failed for each in phases) else "REPEATABLE"


def first_difference(text: str, usual: str, tokens: Tokens | None) -> Difference | None:
    """Where two texts part, in characters and in tokens; None where they are the same."""
    if text == usual:
        return None
    token = _parted(tokens(text), tokens(usual)) if tokens is not None else None
    return Difference(character=_parted(text, usual), token=token)


def _parted(a: str | list[int], b: str | list[int]) -> int:
    """The first place at which two sequences differ; the end of the shorter one where it begins the other."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(a), len(b)))


def _same(count: int, asked: int, confidence: float) -> Range | None:
    """The share that is the same, with the exact interval of Clopper and Pearson (1934)."""
    if asked == 0:
        return None
    interval = stats.binomtest(count, asked).proportion_ci(confidence, method="exact")
    return Range(value=count / asked, low=float(interval.low), high=float(interval.high))


def tokenizer(folder: Path | None) -> Tokens | None:
    """From a text to its tokens, by the folder's tokenizer.json; None where there is none.

    Raises:
        Usage: when that file cannot be read as a tokenizer.
    """
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(read_bytes(folder / "tokenizer.json", folder, _TOKENIZER).decode())
    except Stop as stop:
        raise Usage(str(stop)) from None
    except Exception as error:  # the library raises nothing more exact
        raise Usage(f"{folder / 'tokenizer.json'} cannot be read as a tokenizer: {error}") from None
    return lambda text: list(made.encode(text, add_special_tokens=False).ids)
