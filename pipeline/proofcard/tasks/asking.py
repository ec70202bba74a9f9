"""Runs the harness as a process of its own, once for each repeat of each server, and reads its results."""

import os
import time
from pathlib import Path

from pydantic import ValidationError

from proofcard import children
from proofcard.config.tasks import Sampling, Task, TasksConfig
from proofcard.documents.tasks import Asked, Order, OrderedTask, Outcomes
from proofcard.environments import program
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import read_bytes
from proofcard.progress import console, shown
from proofcard.scratch import private_folder
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.logs import last_lines
from proofcard.serve.process import Supervised
from proofcard.serve.reasoning import template_opens
from proofcard.tasks.harness import ANSWERS, KEY, RESULT
from proofcard.tasks.kept import Kept

_LOOK_EVERY_S = 0.25
_SAY_EVERY_S = 10.0
_GRACE_S = 3.0
_RESULT = 256 << 20  # bytes of a result: some 150 a question
_FEWSHOT_SEED = 1234  # the harness's own

Repeats = list[dict[str, Asked]]
"""Each repeat of a task: its questions by name."""


def ask_all(
    config: TasksConfig, endpoint: Endpoint, folder: Path, side: str, kept: Path | None = None
) -> tuple[str, dict[str, Repeats]]:
    """The harness's version, and every repeat of every chosen task; answers are left in `folder`.

    Answers in the file `kept`, of an interrupted run, are not asked for again; new ones are added to it.

    Raises:
        Usage: when a task cannot be run as configured.
        Stop: when the harness or the server fails.
    """
    chosen = config.tasks.chosen()
    repeats: dict[str, Repeats] = {name: [] for name in chosen}
    harness = ""
    if count := len(Kept(kept)):
        console.print(f"{side}: reusing {count} answers of an interrupted run")
    for repeat in range(max(task.repeats for task in chosen.values())):
        tasks = {name: task for name, task in chosen.items() if repeat < task.repeats}
        order = _order(config, tasks, endpoint, repeat)
        order = order.model_copy(update={"kept": str(kept.absolute()) if kept is not None else None})
        place = folder / f"{side}-{repeat + 1}"
        place.mkdir()
        outcomes = _run(order, place, endpoint.api_key, f"{side}, repeat {repeat + 1}" if repeat else side)
        harness = outcomes.harness
        for name, asked in outcomes.tasks.items():
            repeats[name].append(asked)
    return harness, repeats


def rehearse(config: TasksConfig) -> None:
    """Let the harness make and judge one question of each task, without a server.

    Raises:
        Usage: when a task cannot be run as configured, or its data is not there.
        Stop: when the harness fails.
    """
    nobody = Endpoint("", "", None, None, "", 0, Path(os.devnull))
    order = _order(config, config.tasks.chosen(), nobody, 0).model_copy(update={"rehearsal": True})
    _run(order, private_folder("tasks"), None, "rehearsal")


def _order(config: TasksConfig, tasks: dict[str, Task], endpoint: Endpoint, repeat: int) -> Order:
    asked = config.tasks
    return Order(
        url=endpoint.url,
        model=endpoint.model,
        says_done=endpoint.says_done,
        thinks_first=template_opens(endpoint.tokenizer),
        tasks=[
            OrderedTask(
                name=name,
                harness=task.harness or "",
                metric=task.metric,
                filter=task.filter,
                path=str(task.path.absolute()) if task.path is not None else None,
                max_tokens=task.max_tokens or asked.sampling.max_tokens,
            )
            for name, task in tasks.items()
        ],
        include=str(asked.include.absolute()) if asked.include is not None else None,
        sampling=_fields(asked.sampling, repeat),
        users=asked.users,
        limit=asked.limit,
        timeout_s=asked.timeout_s,
        tries=asked.tries,
        fewshot_seed=_FEWSHOT_SEED,
        offline=not asked.download,
        rehearsal=False,
        repeat=repeat,
    )


def _fields(sampling: Sampling, repeat: int) -> dict[str, float | int]:
    """The fields of a request; a seed of each repeat's own, and none for greedy answers, which need none."""
    fields: dict[str, float | int] = {"temperature": sampling.temperature}
    if sampling.temperature == 0:
        return fields
    if sampling.top_p is not None:
        fields["top_p"] = sampling.top_p
    if sampling.top_k is not None:
        fields["top_k"] = sampling.top_k
    if sampling.seed is not None:
        fields["seed"] = sampling.seed + repeat
    return fields


def _run(order: Order, folder: Path, key: str | None, title: str) -> Outcomes:
    """One pass of the harness, shown while it goes."""
    file = folder / "order.json"
    file.write_text(order.model_dump_json(), encoding="utf-8")
    own = {} if key is None else {KEY: key}
    if order.offline:
        own |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    words = ("-P", "-m", "proofcard.tasks.harness", str(file.absolute()), str(folder.absolute()))
    argv = (str(program("bench", "python")), *words)
    log, answers = folder / "harness.log", folder / ANSWERS
    with Supervised(argv, children.environment(own), log, _GRACE_S) as harness:
        seen, count = time.monotonic(), 0
        while not harness.ended():
            time.sleep(_LOOK_EVERY_S)
            if time.monotonic() - seen > _SAY_EVERY_S and (now := _lines(answers)) > count:
                seen, count = time.monotonic(), now
                console.print(f"{title}: {count} answers")
        status = harness.status()
    if status != 0 or not (folder / RESULT).is_file():
        ending = " ".join(last_lines(log)[-3:]) or "no output"
        raise Stop(f"lm-evaluation-harness ended with exit status {status}: {ending}; see {shown(log)}")
    try:
        outcomes = Outcomes.model_validate_json(read_bytes(folder / RESULT, folder, _RESULT))
    except ValidationError as error:
        raise Stop(
            f"{shown(folder / RESULT)} is not what the harness should write: {one_line(error)}"
        ) from None
    if outcomes.refused is not None:
        raise Usage(outcomes.refused) if order.rehearsal else Stop(outcomes.refused)
    return outcomes


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
