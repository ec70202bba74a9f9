"""Asking the known questions and judging the answers."""

import json
from pathlib import Path
from typing import Any

import regex

from proofcard.config.serving import Question, Truth
from proofcard.documents.serving import KnownAnswers, Verdict
from proofcard.errors import Stop, Usage
from proofcard.progress import Bar
from proofcard.reports import Section
from proofcard.sandbox import Mode, announce
from proofcard.screen import quoted
from proofcard.serve import client
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.outcomes import outcome
from proofcard.serve.reasoning import template_opens
from proofcard.serve.truth.code import code_in, trial

_MATCHING_S = 5.0


def sentence(known: KnownAnswers) -> str:
    """The result in one sentence."""
    of = f"{known.passed} of {len(known.verdicts)} known answers right"
    enough = f"at least {known.at_least:.0%} were asked for"
    return f"{of}, {enough}: " + ("a sound model" if known.sound else "not to be trusted")


def section(known: KnownAnswers) -> Section:
    """A table for the screen and for reports."""
    rows = [[verdict.name, "right" if verdict.right else "WRONG", verdict.why] for verdict in known.verdicts]
    return Section(f"Quick truth: {known.name}", sentence(known), ["question", "verdict", "why"], rows)


def require(known: KnownAnswers) -> None:
    """Raises Stop when the model is not sound."""
    if not known.sound:
        raise Stop(
            f"{sentence(known)}; look at the answers, run verify on the checkpoint, "
            "or go on all the same with truth.required=false"
        )


def examine(endpoint: Endpoint, truth: Truth) -> KnownAnswers:
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
    return counted(truth.name, truth.at_least, given)


def counted(name: str, at_least: float, verdicts: list[Verdict]) -> KnownAnswers:
    """A set's verdicts, and whether the share `at_least` of them is right."""
    passed = sum(verdict.right for verdict in verdicts)
    sound = passed >= at_least * len(verdicts)
    return KnownAnswers(name=name, at_least=at_least, passed=passed, sound=sound, verdicts=verdicts)


def prepare(truth: Truth) -> None:
    """What can be known before anything is started: the questions, and that their answers can be judged here.

    Raises:
        Usage: when the file of known answers cannot be read, or code cannot be run safely enough.
    """
    if any(question.calls is not None for question in questions(truth).values()):
        announce(truth.sandbox, "truth.sandbox")


def questions(truth: Truth) -> dict[str, Question]:
    """The questions of a set by name, those of its file numbered by their dataset.

    Raises:
        Usage: when the file cannot be read.
    """
    found = dict(truth.questions)
    if truth.known_answers is not None:
        for number, entry in enumerate(_known(truth.known_answers), 1):
            try:
                says = {message["role"]: message["content"] for message in entry["messages"]}
                found[f"{entry['dataset']} {number}"] = Question(
                    prompt=says["user"], system=says.get("system"), contains=entry["expected"]
                )
            except (LookupError, TypeError, ValueError):
                raise Usage(
                    f"truth.known_answers={truth.known_answers}: entry {number} should have dataset, "
                    "messages with role and content, one of them the user's, and expected"
                ) from None
    return found


def _known(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Usage(f"truth.known_answers={path} cannot be read: {error}") from None
    if not isinstance(entries, list):
        raise Usage(f"truth.known_answers={path} holds no list of questions")
    return entries


def _verdict(endpoint: Endpoint, truth: Truth, name: str, question: Question) -> Verdict:
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.prompt})
    try:
        answer = client.ask(
            endpoint.url, endpoint.model, endpoint.api_key, messages, truth.max_tokens, truth.timeout_s,
            must_say_done=endpoint.says_done,
        )  # fmt: skip
    except client.NoAnswer as error:
        return Verdict(name=name, prompt=question.prompt, answer="", right=False, why=str(error))
    flaw = unanswered(answer, truth.max_tokens, template_opens(endpoint.tokenizer))
    right, why = judge(question, answer.text, truth.sandbox) if flaw is None else (False, flaw)
    return Verdict(name=name, prompt=question.prompt, answer=answer.text, right=right, why=why)


def unanswered(answer: client.Answer, max_tokens: int, thinks_first: bool) -> str | None:
    """Why an answer is none that could be right, whatever it says; None where it can be judged.

    That is what the model did not say as its answer (thoughts, a call of a tool, a refusal), and what it did
    not end by itself: what is cut may be thoughts whose end nobody saw. `thinks_first`: the model begins
    within thoughts, without a mark. It counts where a stream ends without `[DONE]`, since `transformers
    serve` says `stop` also of an answer that was cut.
    """
    cut = f"after {answer.tokens or max_tokens} tokens: raise truth.max_tokens"
    whole = answer.thinking and not answer.at_length
    return {
        "answered": None if answer.text else "is empty",
        "cut": f"cut {cut}",
        "thinking": "ends while thinking, without an answer" if whole else f"cut while thinking {cut}",
        "ended": f"was ended by the server ({quoted(answer.finish, 40)}), not by the model",
        "tool": "calls a tool instead of answering",
        "refused": f"refuses to answer: {_short(answer.refusal)}",
    }[outcome(answer, thinks_first)]


def judge(question: Question, answer: str, sandbox: Mode = "strict") -> tuple[bool, str]:
    """Whether an answer is right, and why. Its code, where code was asked for, runs confined."""
    if question.contains is not None:
        right = question.contains in answer
        return right, "as expected" if right else f"says {_short(answer)}, not {_short(question.contains)}"
    if question.matches is not None:
        try:
            right = regex.fullmatch(question.matches, answer, timeout=_MATCHING_S) is not None
        except TimeoutError:
            return False, f"says {_short(answer)}, which could not be matched in {_MATCHING_S:g} s"
        return (
            right,
            "as asked for" if right else f"says {_short(answer)}, which is not of the form asked for",
        )
    assert question.calls is not None
    code = code_in(answer)
    if code is None:
        return False, f"holds no code: {_short(answer)}"
    return trial(code, question.calls, sandbox)


def _short(text: str) -> str:
    return f"'{quoted(text, 60)}'"
