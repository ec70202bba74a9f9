"""lm-evaluation-harness asked through our own client: a program of the environment `bench`.

    python -P -m proofcard.tasks.harness ORDER FOLDER

The harness makes the prompts and judges the answers. Between them every request goes through
`proofcard.serve.client`, which checks every reply; the API key comes in the variable KEY. ORDER is an `Order`
in JSON. FOLDER gets `answers.jsonl`, a line for each request as soon as it is answered, and at the end
`result.json`, an `Outcomes`. In a rehearsal no server is asked: it only shows that each task can be run.
"""

import hashlib
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from proofcard import garbage
from proofcard.digest import readable_json
from proofcard.documents.tasks import Asked, Order, OrderedTask, Outcomes
from proofcard.screen import quoted
from proofcard.serve import client
from proofcard.serve.outcomes import Outcome, outcome
from proofcard.serve.wire import NoAnswer
from proofcard.tasks.kept import Kept

KEY = "PROOFCARD_TASKS_KEY"
ANSWERS, RESULT = "answers.jsonl", "result.json"
_PAUSE_S = 1.0
_LOST = 8  # requests that fail one after the other: the server is gone
_LONGEST = 1 << 16  # characters of an answer that are kept


class Refused(Exception):
    """A task that cannot be run; the message says why."""


def main() -> None:
    """Run every task of an order."""
    garbage.look_seldom()
    order = Order.model_validate_json(Path(sys.argv[1]).read_bytes())
    folder = Path(sys.argv[2])
    logging.disable(logging.WARNING)
    try:
        known = _known(order)
        asked = {task.name: _run(task, known, order, folder) for task in order.tasks}
        outcomes = Outcomes(harness=version("lm-eval"), tasks=asked)
    except Refused as refused:
        outcomes = Outcomes(harness=version("lm-eval"), tasks={}, refused=str(refused))
    (folder / RESULT).write_text(readable_json(outcomes.model_dump(mode="json")), encoding="utf-8")


def _known(order: Order) -> Any:
    """The harness's index of tasks. Its own are 14,000 files, which take it seconds.

    Only the folders of those that are named after a wanted task are read, where this finds each as a task
    that is no group of others.
    """
    from lm_eval import tasks

    if order.include is not None:
        return tasks.TaskManager(include_path=order.include, include_defaults=False)
    wanted = {task.harness for task in order.tasks}
    files = Path(tasks.__file__).parent.rglob("*.yaml")
    folders = sorted({str(path.parent) for path in files if path.stem in wanted})
    few = tasks.TaskManager(include_path=folders, include_defaults=False)
    return few if wanted <= set(few.all_subtasks) else tasks.TaskManager()


def _run(task: OrderedTask, known: Any, order: Order, folder: Path) -> dict[str, Asked]:
    """Each question of a task, by the harness's name and number; of a rehearsal the first alone."""
    from lm_eval.evaluator import simple_evaluate

    words: list[Any] = [task.harness]
    if task.path is not None:  # only within a group may a known task be given with other settings
        words = [{"group": "proofcard", "task": [{"task": task.harness, "dataset_path": task.path}]}]
    if task.harness not in known.all_tasks:
        where = order.include or f"lm-evaluation-harness {version('lm-eval')}"
        raise Refused(f"task {task.name}: {where} has no task {task.harness}")
    asking = _model(order, task, folder / ANSWERS)
    limit = 1 if order.rehearsal else order.limit
    try:
        results = simple_evaluate(
            asking, tasks=words, task_manager=known, bootstrap_iters=0,
            limit=limit, apply_chat_template=True, fewshot_as_multiturn=True, log_samples=True,
            random_seed=order.fewshot_seed, numpy_random_seed=order.fewshot_seed,
            torch_random_seed=order.fewshot_seed, fewshot_random_seed=order.fewshot_seed,
        )  # fmt: skip
    except NoAnswer as error:
        raise Refused(f"task {task.name}: {error}") from None
    except Refused:
        raise
    except Exception as error:  # of the harness, of datasets, of a task's own code
        raise Refused(_reason(task, error, order.offline)) from None
    questions: dict[str, Asked] = {}
    for part, samples in (results or {})["samples"].items():
        chosen = [sample for sample in samples if sample["filter"] == task.filter]
        if not chosen:
            known = ", ".join(sorted({sample["filter"] for sample in samples}))
            raise Refused(f"task {task.name}: {part} has no filter {task.filter}: choose from {known}")
        for sample in chosen:
            name = f"{part}/{sample['doc_id']}"
            questions[name] = asking.asked[name].model_copy(update={"score": _score(task, sample)})
    return questions


def _score(task: OrderedTask, sample: dict[str, Any]) -> float:
    value = sample.get(task.metric)
    if isinstance(value, (bool, int, float)) and 0 <= value <= 1:
        return float(value)
    if value is None:
        known = ", ".join(sample["metrics"])
        raise Refused(f"task {task.name} has no metric {task.metric}: choose from {known}")
    raise Refused(
        f"task {task.name}: its metric {task.metric} does not score each question from 0 to 1; choose another"
    )


def _reason(task: OrderedTask, error: Exception, offline: bool) -> str:
    """One sentence on what went wrong within the harness."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    away = ("OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionError", "DatasetNotFoundError")
    if offline and kinds & set(away):
        return (
            f"task {task.name}: its dataset is not on this machine ({quoted(str(error), 120)}): "
            f"set tasks.tasks.{task.name}.path=DIR, or allow the download with tasks.download=true"
        )
    if kinds & set(away):
        return (
            f"task {task.name}: its dataset cannot be fetched ({quoted(str(error), 120)}): check the "
            f"network, HF_ENDPOINT and HF_TOKEN, or set tasks.tasks.{task.name}.path=DIR"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"task {task.name} needs {quoted(error.name)}, which the harness does not bring: add it with "
            f"`uv pip install --python {sys.executable} {quoted(error.name)}`, or leave the task out"
        )
    if "marked as unsafe" in str(error):
        return f"task {task.name} runs generated code, and the harness has no sandbox for it: leave it out"
    return f"task {task.name} cannot be run: {type(error).__name__}: {quoted(str(error))}"


def _model(order: Order, task: OrderedTask, log: Path) -> Any:
    """The endpoint as a model of the harness, whose base class is imported only here."""
    from lm_eval.api.model import LM

    class Endpoint(LM):
        """Asks the server for answers. A chat server does not give likelihoods of given texts."""

        tokenizer_name = "the server's own"

        def __init__(self) -> None:
            super().__init__()
            self.asked: dict[str, Asked] = {}
            self._writing, self._lost = threading.Lock(), 0
            self._kept = Kept(Path(order.kept) if order.kept is not None else None)

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return json.dumps(chat_history, ensure_ascii=False)

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise Refused(
                f"task {task.name} needs likelihoods of given answers, which a chat server does not give"
            )

        loglikelihood_rolling = loglikelihood

        def generate_until(self, requests: list[Any]) -> list[str]:
            if order.rehearsal:
                return [self._rehearsed(each) for each in requests]
            users = ThreadPoolExecutor(order.users)
            try:
                return list(users.map(self._answer, requests))
            finally:
                users.shutdown(cancel_futures=True)

        def _rehearsed(self, request: Any) -> str:
            sent = hashlib.sha256(request.args[0].encode()).hexdigest()
            name = f"{request.task_name}/{request.doc_id}"
            self.asked[name] = Asked(prompt=sent, score=0.0, outcome="failed", tokens=None)
            return ""

        def _answer(self, request: Any) -> str:
            prompt, options = request.args
            sent = hashlib.sha256(prompt.encode()).hexdigest()
            question = f"{request.task_name}/{request.doc_id}"
            wanted = {
                "task": task.name, "question": question, "repeat": order.repeat,
                "says_done": order.says_done, "thinks_first": order.thinks_first,
                "body": _body(order, task, prompt),
            }  # fmt: skip
            reply = self._kept.get(wanted)
            text, how, tokens, why = (*reply, "") if reply is not None else _ask(order, task, prompt)
            with self._writing:
                if reply is None and how != "failed":
                    self._kept.add(wanted, (text, how, tokens))
                self._lost = self._lost + 1 if how == "failed" else 0
                if self._lost >= _LOST:
                    raise NoAnswer(f"{_LOST} requests failed one after the other, the last with: {why}")
                self.asked[question] = Asked(prompt=sent, score=0.0, outcome=how, tokens=tokens)
                line = {"task": task.name, "question": question, "outcome": how, "answer": text[:_LONGEST]}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line | ({"why": why} if why else {}), ensure_ascii=False) + "\n")
            return _until(text, options.get("until") or [])

    return Endpoint()


def _until(text: str, stops: list[str] | str) -> str:
    """The answer up to the first mark at which the harness stops; thoughts are not searched for it."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop, 1)[0] if stop else text
    return text


def _body(order: Order, task: OrderedTask, prompt: str) -> dict[str, Any]:
    """The request."""
    body: dict[str, Any] = {"model": order.model, "messages": json.loads(prompt), "stream": True}
    return body | {"max_tokens": task.max_tokens, **order.sampling}


def _ask(order: Order, task: OrderedTask, prompt: str) -> tuple[str, Outcome, int | None, str]:
    """The answer's text after its thoughts, how it ended, its tokens, and why there is none."""
    body = _body(order, task, prompt)
    for left in reversed(range(order.tries)):
        try:
            answer = client.complete(
                order.url, os.environ.get(KEY), body, task.max_tokens, order.timeout_s, order.says_done
            )
        except NoAnswer as error:
            if left and (error.status is None or error.status >= 500 or error.status == 429):
                time.sleep(_PAUSE_S)
                continue
            return "", "failed", None, str(error)
        how = outcome(answer, order.thinks_first)
        return (answer.text if how in ("answered", "cut", "ended") else ""), how, answer.tokens, ""
    raise AssertionError("tries is at least 1")


if __name__ == "__main__":
    main()
