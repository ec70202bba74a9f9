"""The stages of one run, one after the other: reused, left out or started, until the first that fails."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from proofcard import stage as sealing
from proofcard.config.running import STAGES, StageName
from proofcard.disk import write_whole
from proofcard.documents.run import Run, Stage, State
from proofcard.errors import Stop, Usage
from proofcard.progress import console
from proofcard.run import child, finished, stages
from proofcard.run.request import Request
from proofcard.run.target import NOWHERE, Target, known

FOLDER = "chains"
"""Below `work_dir`: what became of each run."""


class Chain:
    """A run in progress. `target` is what its recipe leads to, `states` what became of each stage so far."""

    def __init__(self, request: Request, target: Target, reused: Mapping[StageName, str]) -> None:
        self.request, self.target = request, target
        self.skipped = stages.left_out(request)
        self._reused = dict(reused)
        self._states: dict[StageName, Stage] = {}

    def to_do(self) -> list[StageName]:
        """The stages that have to be started, as far as is known now."""
        return [name for name in STAGES if name not in self.skipped and name not in self._reused]

    def not_started(self) -> dict[StageName, str]:
        """The stages that are not started, with the reason."""
        left = {name: f"left out: {why}" for name, why in self.skipped.items()}
        done = dict.fromkeys(self._states, "made just now")
        return {name: f"reused: {why}" for name, why in self._reused.items()} | done | left

    def document(self) -> Run:
        """What became of every stage until now."""
        reached = self._states
        return Run(
            recipe=self.request.recipe.recipe.name,
            key=self.target.key,
            checkpoint=str(self.target.folder) if self.target.key is not None else None,
            stages=[reached.get(name) or self._stage(name, "not reached") for name in STAGES],
            again=self.again(),
        )

    def again(self) -> str:
        """The command that resumes: the same one, since every finished stage is reused."""
        return shlex.join(["proofcard", "run", *self.request.given])

    def path(self) -> Path:
        """Where the document is written."""
        name = f"{self.request.recipe.recipe.name}-{(self.target.key or 'unfetched')[:12]}.json"
        return self.request.recipe.work_dir / FOLDER / name

    def begun(self, name: StageName, seconds: float) -> None:
        """Note a stage that was made before the chain itself: the plan."""
        self._states[name] = self._stage(name, "made", seconds=seconds)

    def work(self) -> None:
        """Every stage in order.

        Raises:
            Stop: naming the stage that failed, what is finished, and the command that resumes.
            KeyboardInterrupt: with the same as a note.
        """
        count = len([name for name in self.to_do() if name not in self._states])
        number = 0
        for name in STAGES:
            if name in self._states:
                continue
            if name in self.skipped:
                self._states[name] = self._stage(name, "left out", self.skipped[name])
            elif self._is_reused(name):
                self._states[name] = self._stage(name, "reused", self._reused[name])
            else:
                number += 1
                self._start(name, f"[{number}/{max(count, number)}]")
            if name in ("fetch", "quantize") and self._made(name):
                self._look_again()
            self._save()

    def _is_reused(self, name: StageName) -> bool:
        """Whether a stage need not run. Every byte of a checkpoint is read, and a card is checked."""
        if name == "quantize" and name in self._reused and self.target.key is not None:
            sealing.find_sealed(self.target.folder, self.target.key)
        elif name == "audit" and (path := finished.audit(self.request, self.target)) is not None:
            self._reused[name] = path
        elif name == "sign" and not self._made("verify") and finished.signed_by(self.request, self.target):
            self._reused[name] = "its signatures are there"
        elif name == "card" and self._card_agrees():
            self._reused[name] = "it agrees with its documents"
        return name in self._reused

    def _made(self, name: StageName) -> bool:
        """Whether a stage was made in this run."""
        return name in self._states and self._states[name].state == "made"

    def _card_agrees(self) -> bool:
        """Whether the card that is there is the one that would be written."""
        if not finished.card(self.request, self.target):
            return False
        return child.ended(stages.card_check(self.request, self.target), shows="nothing") == 0

    def _start(self, name: StageName, place: str) -> None:
        command = self._command(name)
        console.print()
        console.print(f"{place} {command}", soft_wrap=True)
        began = time.monotonic()
        evaluations = finished.evaluations(self.request)
        state: State = "interrupted"
        status = 0
        try:
            status = child.ended(
                stages.words(name, self.request, self.target), stages.processes(name, self.request)
            )
            state = "made" if status == 0 else "failed"
        except KeyboardInterrupt as stop:
            stop.add_note(f"{name} was stopped; {self._resuming()}")
            raise
        finally:
            self._states[name] = self._stage(name, state, seconds=time.monotonic() - began)
            if state != "made":
                self._save()
        if name == "evaluate" and evaluations and finished.evaluations(self.request) == evaluations:
            self._states[name] = self._stage(name, "reused", "it was sealed", time.monotonic() - began)
        if status:
            raise Stop(f"{name} {_failed(name, status)}; {self._resuming(name)}")

    def _resuming(self, failed: StageName | None = None) -> str:
        """What is finished, and how to go on, with and without the stage that failed."""
        done = self.document().finished()
        said = f"finished: {', '.join(done) or 'nothing'}; to resume: {self.again()}"
        if failed is not None and failed not in ("quantize", "fetch", "verify"):
            skip = ",".join([*self.request.config.skip, failed])
            given = [word for word in self.request.given if not word.startswith("skip=")]
            said += f"; without it: {shlex.join(['proofcard', 'run', *given, f'skip=[{skip}]'])}"
        return said

    def _look_again(self) -> None:
        """The key, the folder and what there is of it, once they are known."""
        former = self.target
        self.target = known(self.request.recipe)
        if former.key is None or former.sealed is None:
            self._reused = finished.reused(self.request, self.target)
        if self._made("quantize") and self.target.sealed is None:
            raise Stop(
                f"{self.target.folder} is not the checkpoint that quantize was to make: see its messages"
            )

    def _command(self, name: StageName) -> str:
        words = stages.words(name, self.request, self.target)
        return child.command(words, stages.processes(name, self.request))

    def _stage(self, name: StageName, state: State, why: str | None = None, seconds: float = 0.0) -> Stage:
        return Stage(name=name, state=state, why=why, command=self._command(name), seconds=round(seconds, 2))

    def _save(self) -> None:
        path = self.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.document().text())


def _failed(name: StageName, status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status}"
    if name == "verify" and status == 1:
        return "says that the checkpoint differs"
    return f"failed with exit status {status} (its message is above)"


def planned(request: Request) -> tuple[float, int]:
    """Run the stage `plan` alone: seconds and exit status. Its tables are not shown."""
    began = time.monotonic()
    status = child.ended(stages.words("plan", request, NOWHERE), shows="progress")
    return time.monotonic() - began, status


def refused(status: int) -> Stop:
    """What a plan that could not be made means for the whole chain."""
    if status == 2:
        return Usage("nothing was started: the plan says why (above)")
    return Stop("the plan failed (above)")
