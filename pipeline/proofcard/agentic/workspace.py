"""The folder in which a model builds, and the one sandbox beneath it, as inspect-ai knows sandboxes.

Files are written and read by this process, under names that a folder of Python files may have. Programs run
in `proofcard.sandbox`: they can import and read what lies in the folder, and nothing more.
"""

import shutil
from pathlib import Path
from typing import Any, Literal, overload

import anyio
from inspect_ai.util import ExecResult, SandboxEnvironment, sandboxenv

from proofcard import sandbox
from proofcard.config.agentic import FILE_NAME
from proofcard.scratch import private_folder

NAME = "proofcard"
SPECIFICATION = "SPECIFICATION.md"
_LARGEST = 64 << 10  # bytes of a file
_FILES = 32
_CODE = 64 << 10  # characters of a program


class Refused(Exception):
    """What the model may not do; the message is for the model."""


@sandboxenv(name=NAME)
class Workspace(SandboxEnvironment):
    """A fresh folder for one run."""

    weak = False  # where the machine protects itself too little, and the user wants it all the same

    def __init__(self) -> None:
        super().__init__()
        self._root = private_folder("agentic")
        self.folder, self._programs = self._root / "files", self._root / "programs"
        self.folder.mkdir()
        self._programs.mkdir()

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """A fresh folder."""
        return {"default": cls()}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """Remove it."""
        for environment in environments.values():
            shutil.rmtree(environment.as_type(Workspace)._root, ignore_errors=True)

    async def exec(  # type: ignore[override]  # of its many options, what a confined program can have
        self, cmd: list[str], input: str | bytes | None = None, **_: Any
    ) -> ExecResult[str]:
        """Run `["python", "-c", code]`; errors are part of the output. Raises Refused for anything else."""
        if len(cmd) != 3 or cmd[:2] != ["python", "-c"]:
            raise Refused("only Python programs run here")
        if len(cmd[2]) > _CODE:
            raise Refused(f"a program may have {_CODE >> 10} KiB")
        program = self._programs / "program.py"
        program.write_text(cmd[2], encoding="utf-8", errors="surrogatepass")
        stdin = input.encode() if isinstance(input, str) else input or b""
        ended = await anyio.to_thread.run_sync(self._run, program, stdin)
        output = ended.output.decode(errors="replace")
        if not ended.succeeded:
            output = f"{output}\n(the program {ended.how})"
        return ExecResult(ended.succeeded, 0 if ended.succeeded else 1, output, "")

    def _run(self, program: Path, stdin: bytes) -> sandbox.Result:
        return sandbox.run(program, self.folder, stdin=stdin, weak=self.weak)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Raises Refused for a name, a size or a number of files that no workspace has."""
        data = contents if isinstance(contents, bytes) else contents.encode(errors="surrogatepass")
        if FILE_NAME.fullmatch(file) is None and file != SPECIFICATION:
            raise Refused("a file is called like note_store.py: small letters, digits and _, in no folder")
        if len(data) > _LARGEST:
            raise Refused(f"a file may have {_LARGEST >> 10} KiB")
        target = self.folder / file
        if not target.exists() and len(self.files()) >= _FILES:
            raise Refused(f"there may be {_FILES} files")
        target.write_bytes(data)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """A file of the workspace. Raises Refused when there is none of that name."""
        if file not in self.files():
            raise Refused(f"there is no file of that name; there are {', '.join(self.files())}")
        data = (self.folder / file).read_bytes()
        return data.decode(errors="replace") if text else data

    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(path.name for path in self.folder.iterdir())
