"""The steps of a level that reads tensors: their order, and the results of an interrupted run.

For local folders a step simply runs. For a folder that is streamed from the hub, steps follow the order of
its shards, declare which they read, and record their outcome: the same command resumes after the last one.
"""

import json
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from proofcard.checkpoint.streamed import Streamed
from proofcard.checkpoint.tensors import Tensor

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Keeps(Protocol[Result]):
    """How a step's outcome is kept in the record."""

    def dump(self, outcome: Result) -> dict[str, Any] | None:
        """As JSON values; None where the step has to be done again."""

    def load(self, recorded: dict[str, Any]) -> Result:
        """The outcome. Raises ValueError, KeyError or TypeError if the values are not one."""


class Whole(Generic[Result]):
    """Outcomes that pydantic can write down and read back."""

    def __init__(self, kind: type[Result]) -> None:
        self._adapter: TypeAdapter[Result] = TypeAdapter(kind)

    def dump(self, outcome: Result) -> dict[str, Any] | None:
        """All of it."""
        values: dict[str, Any] = self._adapter.dump_python(outcome, mode="json")
        return values

    def load(self, recorded: dict[str, Any]) -> Result:
        """Raises ValidationError, a ValueError, if the values are not one."""
        return self._adapter.validate_python(recorded)


class Passing:
    """The folders that a verification reads through once; none of them need come from the hub."""

    def __init__(self, streams: Collection[Streamed] = (), records: Path | None = None) -> None:
        """`records` is a folder of this verification alone; None keeps none."""
        self.streams, self.records = tuple(streams), records

    def steps(
        self,
        level: str,
        units: Iterable[Unit],
        reads: Callable[[Unit], Iterable[Tensor]],
        name: Callable[[Unit], str],
        keeps: "Keeps[Result]",
    ) -> "Steps[Unit, Result]":
        """One step per unit. `reads` gives the tensors that it reads, `name` a unique name."""
        return Steps(self, level, list(units), reads, name, keeps)


LOCAL = Passing()


class Steps(Generic[Unit, Result]):
    """The steps of one level; `ordered` are their units, in the order in which they should be done."""

    def __init__(
        self,
        passing: Passing,
        level: str,
        units: list[Unit],
        reads: Callable[[Unit], Iterable[Tensor]],
        name: Callable[[Unit], str],
        keeps: "Keeps[Result]",
    ) -> None:
        self._streams, self._level, self._name = passing.streams, level, name
        self._keeps = keeps
        self._known: dict[str, Result] = {}
        self._record: Path | None = None
        self._writing = threading.Lock()
        self.ordered = units
        if not self._streams:
            return
        if passing.records is not None:
            self._record = passing.records / f"{level}.jsonl"
            self._known = self._read()
        self._files = {name(unit): self._files_of(reads(unit)) for unit in units}
        places = [{file: at for at, file in enumerate(stream.shards())} for stream in self._streams]

        def when(unit: Unit) -> list[int]:
            files = self._files[name(unit)]
            return [
                max((place[file] for file in each if file in place), default=-1)
                for place, each in zip(places, files, strict=True)
            ]

        self.ordered = sorted(units, key=when)  # stable: natural order within a shard
        for number, stream in enumerate(self._streams):
            left = (self._files[name(unit)][number] for unit in self.ordered if name(unit) not in self._known)
            stream.expect(level, left)

    def run(self, unit: Unit, work: Callable[[], Result]) -> Result:
        """What the work of a unit gives, or gave when it was done before."""
        if not self._streams:
            return work()
        name = self._name(unit)
        if name in self._known:
            return self._known[name]
        try:
            result = work()
            self._note(name, result)
            return result
        finally:
            for number, stream in enumerate(self._streams):
                stream.done(self._level, self._files[name][number])

    def _files_of(self, tensors: Iterable[Tensor]) -> list[set[str]]:
        files: list[set[str]] = [set() for _ in self._streams]
        for tensor in tensors:
            for number, stream in enumerate(self._streams):
                if tensor.path.parent == stream.folder:
                    files[number].add(tensor.path.name)
        return files

    def _read(self) -> dict[str, Result]:
        """Steps of a former run. A line that was not written whole, or by another version, does not count."""
        known: dict[str, Result] = {}
        if self._record is not None and self._record.exists():
            for line in self._record.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry: dict[str, Any] = json.loads(line)
                    known[entry["step"]] = self._keeps.load(entry["result"])
        return known

    def _note(self, name: str, result: Result) -> None:
        kept = self._keeps.dump(result) if self._record is not None else None
        if self._record is None or kept is None:
            return
        line = json.dumps({"step": name, "result": kept}) + "\n"
        with self._writing, self._record.open("a", encoding="utf-8") as file:
            file.write(line)
