"""One commit of a model's repository, through the hub's own client: its file list, headers and files."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from proofcard.digest import sha256_file
from proofcard.errors import Stop, Usage, is_full, one_line
from proofcard.files import plain
from proofcard.hub import RESUMES, Wanted, errors_explained, with_retries


class HubFile(NamedTuple):
    """What the hub says of a file: bytes, sha256 when it lies in LFS, and git's blob id when it does not."""

    size: int
    sha256: str | None
    blob: str

    def digest_if_right(self, path: Path) -> str | None:
        """The sha256 of a file that is what was promised; None for any other."""
        if not path.is_file() or path.stat().st_size != self.size:
            return None
        digest = sha256_file(path)
        right = digest == self.sha256 if self.sha256 else _blob_id(path) == self.blob
        return digest if right else None


class Sink(Protocol):
    """What a file's bytes go into as they come; as much of a file as the client needs."""

    size: int

    def tell(self) -> int:
        """Bytes that are here."""

    def write(self, data: bytes) -> int:
        """Take the next bytes."""

    def seek(self, place: int) -> int:
        """Begin again, from 0."""

    def truncate(self) -> int:
        """Forget what is behind the place."""


class _Part:
    """A few bytes of a file, in memory."""

    def __init__(self, size: int) -> None:
        self.size, self.content = size, bytearray()

    def tell(self) -> int:
        return len(self.content)

    def write(self, data: bytes) -> int:
        if len(self.content) + len(data) > self.size:
            raise Stop("the hub does not send parts of files: download it, and pass the folder")
        self.content += data
        return len(data)

    def seek(self, place: int) -> int:
        del self.content[place:]
        return place

    def truncate(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class Repository:
    """A model repository at a commit."""

    name: str
    commit: str
    where: str = "model"
    address: bool = False  # `where` names it as hf://OWNER/NAME@COMMIT

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:12]}"

    @property
    def wanted(self) -> Wanted:
        """The repository and the settings that select it."""
        return Wanted("model", self.name, self.commit, self.where, self.address)

    def listing(self) -> dict[str, HubFile]:
        """Every file of the commit by path.

        Raises:
            Stop: as `fetch` does, and for a repository that now has another name.
        """
        from huggingface_hub import HfApi

        with errors_explained(self.wanted):
            info = with_retries(
                lambda: HfApi().model_info(self.name, revision=self.commit, files_metadata=True, timeout=30)
            )
        if info.id != self.name:  # the hub leads from a former name to the new one
            raise Stop(
                f"{self.name} has moved to {plain(info.id)}: look at what it is now, and use that name in "
                f"{self.wanted.repository_key}"
            )
        return {
            file.rfilename: HubFile(file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id or "")
            for file in info.siblings or []
        }

    def header(self, file: str) -> dict[str, Any]:
        """A safetensors file's header, read by HTTP range: `{name: {"dtype", "shape", "data_offsets"}}`."""
        from huggingface_hub import HfApi

        with errors_explained(self.wanted):
            reason = with_retries(
                lambda: HfApi().parse_safetensors_file_metadata(self.name, file, revision=self.commit)
            )
        return {
            name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
            for name, tensor in reason.tensors.items()
        }

    def span(self, file: str, first: int, last: int) -> bytes:
        """Bytes `first` to `last` of a file, the last included; fewer where it ends before.

        Raises:
            Stop: when the hub refuses, cannot be reached or does not answer with a part.
        """
        part = _Part(last - first + 1)
        span = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}

        def ask() -> None:
            part.seek(0)
            self._get(file, part, span)

        with errors_explained(self.wanted):
            with_retries(ask)
        return bytes(part.content)

    def stream(self, file: str, sink: "Sink") -> None:
        """A file's bytes into `sink`, from its position to the end, resuming after interruptions.

        Raises:
            Stop: when the hub refuses or cannot be reached.
            OSError: what `sink` raises of the disk.
        """

        def attempt() -> None:
            if sink.tell() < sink.size:
                self._get(file, sink, {})
            if sink.tell() < sink.size:
                raise ConnectionError(f"{file} broke off after {sink.tell():,} of {sink.size:,} bytes")

        with errors_explained(self.wanted):
            with_retries(attempt, sink.tell)

    def _get(self, file: str, sink: "Sink", headers: dict[str, str]) -> None:
        """The client's own download, which resumes after some errors. It writes 10 MiB a time."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.name, file, revision=self.commit)
        try:
            http_get(
                url, cast(BinaryIO, sink), resume_size=sink.tell(), headers=build_hf_headers() | headers,
                displayed_filename=file,
            )  # fmt: skip
        except OSError as error:
            if type(error) is OSError and not is_full(error):
                raise ConnectionError(one_line(error)) from None  # a short answer
            raise

    def fetch(self, file: str, promised: HubFile, incoming: Path) -> tuple[Path, str]:
        """Download a file below `incoming`, going on where a former try ended; returns it and its sha256.

        Raises:
            Stop: when the hub refuses or cannot be reached, or the bytes are not those that it promised.
            OSError: when the disk is full.
        """
        from huggingface_hub import hf_hub_download

        parts = incoming / ".cache" / "huggingface" / "download"

        def attempt() -> str:
            try:
                return hf_hub_download(self.name, file, revision=self.commit, local_dir=incoming)
            except (OSError, RuntimeError) as error:
                for part in parts.glob("*.incomplete"):
                    if part.stat().st_size > promised.size:
                        part.unlink()  # nothing can be added to make it right
                if type(error) in (OSError, RuntimeError) and not is_full(error):
                    raise ConnectionError(one_line(error)) from None  # a short answer; all that Xet raises
                raise

        def here() -> int:
            return sum(part.stat().st_size for part in parts.glob("*.incomplete"))

        with errors_explained(self.wanted):
            path = Path(with_retries(attempt, here))
        digest = promised.digest_if_right(path)
        if digest is None:
            digest = sha256_file(path) if promised.sha256 else _blob_id(path)
            size = path.stat().st_size
            path.unlink()
            raise Stop(
                f"{self}: {file} came with digest {digest} ({size} bytes), the hub promised "
                f"{promised.sha256 or promised.blob} ({promised.size} bytes): it was deleted; {RESUMES}"
            )
        return path, digest


def pinned(name: str, revision: str | None) -> Repository:
    """The repository at its commit.

    Raises:
        Usage: when the revision is not a commit, naming main's commit if the hub returns it.
    """
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return Repository(name, revision)
    reason = f"model.revision={revision} is not a commit" if revision else "model.revision is not set"
    main = Repository(name, "main").wanted.main()
    raise Usage(
        f"{reason}: a branch can move, so use the 40 hex digits of a commit of {name}{main}, "
        "or model.path=… for a local copy"
    )


_ADDRESS = re.compile(r"hf://(?P<name>[^/@\s]+/[^/@\s]+)(?:@(?P<commit>\S+))?")


def is_address(text: str) -> bool:
    """Whether a setting names a repository of the hub and no folder."""
    return text.startswith("hf://")


def at_address(text: str, where: str) -> Repository:
    """The repository that `where`=hf://OWNER/NAME@COMMIT names.

    Raises:
        Usage: when it is malformed or names no commit; then with main's commit, if the hub returns it.
    """
    parts = _ADDRESS.fullmatch(text)
    if parts is None:
        raise Usage(f"{where}={plain(text)} is not of the form hf://OWNER/NAME@COMMIT")
    commit = parts["commit"]
    if commit is not None and re.fullmatch("[0-9a-f]{40}", commit):
        return Repository(parts["name"], commit, where, address=True)
    quiet()
    main = Wanted("model", parts["name"], "main", where, address=True).main()
    names = f"{plain(commit)} is not a commit" if commit else "it names no commit"
    raise Usage(
        f"{where}={plain(text)}: {names}, and a branch can move: write hf://{parts['name']}@ and the 40 hex "
        f"digits of a commit{main}"
    )


def quiet() -> None:
    """Keep the client's progress bars and warnings off the terminal; our own messages replace them."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)  # even that a cache cannot be written is an error to it


def _blob_id(path: Path) -> str:
    """git's id of a file's content: sha1 over `blob <size>`, a zero byte and the bytes."""
    body = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
