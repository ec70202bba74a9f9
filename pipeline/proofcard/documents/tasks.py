"""What `tasks` passes to the harness, gets back, and writes."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from proofcard.documents.base import Document, Json, Sha256

Share = Annotated[float, Field(ge=0, le=1)]
Outcome = Literal["answered", "cut", "thinking", "ended", "tool", "refused", "failed"]
Side = Literal["reference", "candidate"]
Judged = Literal["ACCEPT", "REGRESSION", "INCONCLUSIVE"]


class OrderedTask(Document):
    """A task for the harness: our name for it, its own, and which number is the score."""

    name: str
    harness: str
    metric: str
    filter: str
    path: str | None
    max_tokens: PositiveInt


class Order(Document):
    """One pass of the harness over one server. `sampling` are fields of the request.

    `kept` is the file with answers of an interrupted run, and for those of this one.
    """

    url: str
    model: str
    says_done: bool
    thinks_first: bool
    tasks: list[OrderedTask]
    include: str | None
    sampling: dict[str, float | int]
    users: PositiveInt
    limit: PositiveInt | None
    timeout_s: float
    tries: PositiveInt
    fewshot_seed: int
    offline: bool
    rehearsal: bool
    repeat: NonNegativeInt = 0
    kept: str | None = None


class Asked(Document):
    """One question put to one server: the sha256 of what was sent, the score, how the answer ended."""

    prompt: Sha256
    score: Share
    outcome: Outcome
    tokens: NonNegativeInt | None


class Outcomes(Document):
    """What the harness found: every question of every task; or why a task cannot be run."""

    harness: str
    tasks: dict[str, dict[str, Asked]]
    refused: str | None = None


class Range(Document):
    """A number and its interval."""

    value: float
    low: float
    high: float


class Server(Document):
    """One of the two: its name in words, the key of a sealed checkpoint, and the model's name."""

    label: str
    key: Sha256 | None
    model: str
    serving: dict[str, Json] | None


class TaskResult(Document):
    """One task: both scores, what lies between them, and the verdict with its reasons.

    Scores, differences and margins are shares of 1. `lost` and `gained` count questions. `outcomes` counts
    requests by how their answers ended.
    """

    questions: PositiveInt
    repeats: PositiveInt
    missing: NonNegativeInt
    prompts: Sha256
    metric: str
    filter: str
    max_tokens: PositiveInt
    reference: Range
    candidate: Range
    difference: Range
    recovery: Range | None
    lost: NonNegativeInt
    gained: NonNegativeInt
    mcnemar_p: Share
    detectable: float
    margin: Share
    verdict: Judged
    reasons: list[str]
    outcomes: dict[Side, dict[Outcome, NonNegativeInt]]
    published: dict[str, float]


class TasksReport(Document):
    """`tasks.json`: two servers, the same questions."""

    schema_: Literal["proofcard/tasks/2"] = Field(default="proofcard/tasks/2", alias="schema")
    name: str
    verdict: Judged
    reference: Server
    candidate: Server
    harness: str
    sampling: dict[str, Json]
    policy: dict[str, Json]
    tasks: dict[str, TaskResult]
    not_run: dict[str, str]
