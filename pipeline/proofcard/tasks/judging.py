"""From the answers of two servers to a result and a verdict for each task."""

from collections import Counter

from proofcard.config.tasks import Policy, Task, TasksConfig
from proofcard.digest import sha256_json
from proofcard.documents.tasks import Judged, Outcome, Range, Side, TaskResult
from proofcard.errors import Stop
from proofcard.tasks import paired
from proofcard.tasks.asking import Repeats
from proofcard.tasks.paired import Interval


def judged(name: str, config: TasksConfig, reference: Repeats, candidate: Repeats) -> TaskResult:
    """The result of one task.

    Raises:
        Stop: when the two did not get the same prompts, or a server answered too little to compare anything.
    """
    task, policy = config.tasks.tasks[name], config.policy
    prompts = _same_prompts(name, reference, candidate)
    whole = [
        question
        for question in reference[0]
        if all(repeat[question].outcome != "failed" for repeat in [*reference, *candidate])
    ]
    if len(whole) < 2:
        raise Stop(
            f"task {name}: fewer than two of its {len(prompts)} questions were answered by both servers"
        )
    a, b = _scores(reference, whole), _scores(candidate, whole)
    change = paired.difference(a, b, policy.confidence, policy.resamples, policy.seed)
    before = paired.score(a, policy.confidence)
    recovered = paired.recovery(before.value, change)
    lost, gained = paired.flips(a, b)
    margin = policy.margins.get(name, policy.margin)
    outcomes: dict[Side, dict[Outcome, int]] = {
        "reference": _outcomes(reference),
        "candidate": _outcomes(candidate),
    }
    missing = len(prompts) - len(whole)
    detectable = paired.detectable(a, b, policy.confidence, policy.power)
    verdict, reasons = _verdict(
        policy, change, margin, detectable, len(whole), missing, outcomes["reference"]
    )
    return TaskResult(
        questions=len(whole),
        repeats=task.repeats,
        missing=missing,
        prompts=sha256_json(prompts),
        metric=task.metric,
        filter=task.filter,
        max_tokens=task.max_tokens or config.tasks.sampling.max_tokens,
        reference=_range(before),
        candidate=_range(paired.score(b, policy.confidence)),
        difference=_range(change),
        recovery=_range(recovered) if recovered is not None else None,
        lost=lost,
        gained=gained,
        mcnemar_p=paired.mcnemar(lost, gained),
        detectable=detectable,
        margin=margin,
        verdict=verdict,
        reasons=[*reasons, *_remarks(task, outcomes["reference"], outcomes["candidate"])],
        outcomes=outcomes,
        published=task.published,
    )


def _same_prompts(name: str, reference: Repeats, candidate: Repeats) -> dict[str, str]:
    """The digest of what was sent for each question."""
    sent = [{each: asked.prompt for each, asked in repeat.items()} for repeat in [*reference, *candidate]]
    for other in sent[1:]:
        if other != sent[0]:
            where = next((each for each in sent[0] if other.get(each) != sent[0][each]), "a question more")
            raise Stop(
                f"task {name}: the two servers did not get the same prompts ({where[:80]}): its data or its "
                "code changed in between, or draws at random"
            )
    return sent[0]


def _scores(repeats: Repeats, questions: list[str]) -> list[float]:
    return [sum(repeat[each].score for repeat in repeats) / len(repeats) for each in questions]


def _outcomes(repeats: Repeats) -> dict[Outcome, int]:
    return dict(Counter(asked.outcome for repeat in repeats for asked in repeat.values()))


def _verdict(
    policy: Policy,
    change: Interval,
    margin: float,
    detectable: float,
    questions: int,
    missing: int,
    outcomes: dict[Outcome, int],
) -> tuple[Judged, list[str]]:
    """By the policy, and why."""
    doubts = []
    if questions < policy.questions_at_least:
        doubts.append(f"{questions} questions, the policy asks for at least {policy.questions_at_least}")
    if missing > policy.missing_at_most * (questions + missing):
        doubts.append(f"{missing} questions were not answered by a server")
    cut = (outcomes.get("cut", 0) + outcomes.get("thinking", 0)) / sum(outcomes.values())
    if cut > policy.cut_at_most:
        doubts.append(f"{cut:.1%} of the reference's answers were not complete: raise max_tokens")
    if doubts:
        return "INCONCLUSIVE", doubts
    verdict = paired.verdict(change, margin)
    low, high = 100 * change.low, 100 * change.high
    reason = (
        f"the difference lies between {low:+.2f} and {high:+.2f} points, the margin is {-100 * margin:+.2f}"
    )
    if verdict == "INCONCLUSIVE" and margin > 0:
        needed = questions * (detectable / margin) ** 2
        reason += f"; about {needed:,.0f} questions could show a loss of the margin"
    return verdict, [reason]


def _remarks(task: Task, reference: dict[Outcome, int], candidate: dict[Outcome, int]) -> list[str]:
    """What else a reader should know of how the answers ended."""
    words: dict[Outcome, str] = {
        "thinking": "ended while thinking",
        "cut": "were cut off",
        "ended": "were ended by the server",
    }
    words |= {"tool": "called a tool", "refused": "were refusals"}
    return [
        f"answers that {meaning}: {reference.get(how, 0)} of the reference's, {candidate.get(how, 0)} of the "
        "candidate's"
        for how, meaning in words.items()
        if reference.get(how) or candidate.get(how)
    ]


def _range(interval: Interval) -> Range:
    return Range(value=interval.value, low=interval.low, high=interval.high)
