"""Asking the known questions and judging the answers."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proofcard.config.serving import Question, Truth
from proofcard.errors import Stop, Usage
from proofcard.progress import Bar
from proofcard.reports import Section
from proofcard.serve import client
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.truth.sandbox import code_in, trial


@dataclass(frozen=True)
class Verdict:
    """One question, the answer to it, and why that is right or wrong."""

    name: str
    prompt: str
    answer: str
    right: bool
    why: str


@dataclass(frozen=True)
class Verdicts:
    """All of a set; `sound` when enough of them are right."""

    name: str
    at_least: float
    given: tuple[Verdict, ...]

    @property
    def passed(self) -> int:
        """How many are right."""
        return sum(verdict.right for verdict in self.given)

    @property
    def sound(self) -> bool:
        """Whether the declared share is right."""
        return self.passed >= self.at_least * len(self.given)

    def sentence(self) -> str:
        """The result in one sentence."""
        of = f"{self.passed} of {len(self.given)} known answers right"
        enough = f"at least {self.at_least:.0%} were asked for"
        return f"{of}, {enough}: " + ("a sound model" if self.sound else "not to be trusted")

    def section(self) -> Section:
        """A table for the screen and for reports."""
        rows = [[verdict.name, "right" if verdict.right else "WRONG", verdict.why] for verdict in self.given]
        return Section(f"Quick truth: {self.name}", self.sentence(), ["question", "verdict", "why"], rows)

    def described(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "at_least": self.at_least,
            "passed": self.passed,
            "sound": self.sound,
            "verdicts": [asdict(verdict) for verdict in self.given],
        }

    def require(self) -> None:
        """Raises Stop when the model is not sound."""
        if not self.sound:
            raise Stop(
                f"{self.sentence()}; look at the answers, run verify on the checkpoint, "
                "or go on all the same with truth.required=false"
            )


def examine(endpoint: Endpoint, truth: Truth) -> Verdicts:
    """Ask every question of a set, one after the other, greedily.

    Raises:
        Usage: when the file of known answers cannot be read.
    """
    asked = questions(truth)
    given = []
    with Bar("asking", len(asked), "questions") as bar:
        for name, question in asked.items():
            given.append(_verdict(endpoint, truth, name, question))
            bar.advance()
    return Verdicts(truth.name, truth.at_least, tuple(given))


def questions(truth: Truth) -> dict[str, Question]:
    """The questions of a set by name, those of its file numbered by their dataset.

    Raises:
        Usage: when the file cannot be read.
    """
    found = dict(truth.questions)
    if truth.known_answers is not None:
        for number, entry in enumerate(_known(truth.known_answers), 1):
            says = {message["role"]: message["content"] for message in entry["messages"]}
            found[f"{entry['dataset']} {number}"] = Question(
                prompt=says["user"], system=says.get("system"), contains=entry["expected"]
            )
    return found


def _known(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Usage(f"truth.known_answers={path} cannot be read: {error}") from None
    return entries


def _verdict(endpoint: Endpoint, truth: Truth, name: str, question: Question) -> Verdict:
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.prompt})
    try:
        answer = client.ask(
            endpoint.url, endpoint.model, endpoint.api_key, messages, truth.max_tokens, truth.timeout_s
        )
    except client.NoAnswer as error:
        return Verdict(name, question.prompt, "", False, str(error))
    right, why = judge(question, answer)
    return Verdict(name, question.prompt, answer, right, why)


def judge(question: Question, answer: str) -> tuple[bool, str]:
    """Whether an answer is right, and why."""
    if question.contains is not None:
        right = question.contains in answer
        return right, "as expected" if right else f"says {_short(answer)}, not {_short(question.contains)}"
    if question.matches is not None:
        right = re.fullmatch(question.matches, answer) is not None
        return (
            right,
            "as asked for" if right else f"says {_short(answer)}, which is not of the form asked for",
        )
    assert question.holds is not None
    code = code_in(answer)
    if code is None:
        return False, f"holds no code: {_short(answer)}"
    return trial(code, question.holds)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:57] + "…")
