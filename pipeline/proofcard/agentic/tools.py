"""The tools that a model builds with, and what is counted of their use."""

from dataclasses import dataclass

from inspect_ai.tool import Tool, ToolError, tool
from inspect_ai.util import sandbox

from proofcard.agentic.workspace import Refused, Workspace

_SHOWN = 16 << 10  # characters of a program's output that the model gets to see


@dataclass
class Use:
    """What a model has done in one task: programs that failed, and how many it then got to run."""

    failed_runs: int = 0
    repaired: int = 0
    _open: int = 0  # failures since the last program that succeeded
    _changed: bool = False  # a file was written after one of them

    def wrote(self) -> None:
        """A file was written."""
        self._changed = self._changed or self._open > 0

    def ran(self, succeeded: bool) -> None:
        """A program ended."""
        if not succeeded:
            self.failed_runs += 1
            self._open += 1
            return
        if self._changed:
            self.repaired += self._open
        self._open, self._changed = 0, False


def toolbox(use: Use) -> list[Tool]:
    """All tools; what they do is counted in `use`."""
    return [_write_file(use), _read_file(), _list_files(), _run_python(use)]


@tool(name="write_file")
def _write_file(use: Use) -> Tool:
    async def execute(path: str, content: str) -> str:
        """Write a file, over one of the same name.

        Args:
            path: The file's name, such as note_store.py.
            content: All of its text.
        """
        try:
            await sandbox().write_file(path, content)
        except Refused as refused:
            raise ToolError(str(refused)) from None
        use.wrote()
        return f"{path} written, {len(content.splitlines())} lines"

    return execute


@tool(name="read_file")
def _read_file() -> Tool:
    async def execute(path: str) -> str:
        """Read a file.

        Args:
            path: The file's name.
        """
        try:
            return await sandbox().read_file(path)
        except Refused as refused:
            raise ToolError(str(refused)) from None

    return execute


@tool(name="list_files")
def _list_files() -> Tool:
    async def execute() -> str:
        """The names of all files."""
        return "\n".join(sandbox().as_type(Workspace).files())

    return execute


@tool(name="run_python")
def _run_python(use: Use) -> Tool:
    async def execute(code: str) -> str:
        """Run a Python program that can import the files. It can write nothing; what it prints comes back.

        Args:
            code: The program.
        """
        try:
            ended = await sandbox().exec(["python", "-c", code])
        except Refused as refused:
            raise ToolError(str(refused)) from None
        use.ran(ended.success)
        output = ended.stdout if len(ended.stdout) <= _SHOWN else ended.stdout[:_SHOWN] + "\n(cut)"
        return output or "(it printed nothing)"

    return execute
