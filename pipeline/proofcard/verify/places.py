"""Where a verification reads: local folders, or repositories of the hub as they come."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from proofcard.checkpoint.reading import LEADS, patient
from proofcard.checkpoint.repository import Repository, at_address
from proofcard.checkpoint.streamed import Streamed
from proofcard.config.schema import HubAddress, VerifyConfig
from proofcard.digest import sha256_json
from proofcard.errors import Usage
from proofcard.files import is_inside
from proofcard.locks import alone
from proofcard.progress import shown, silent
from proofcard.reports import beside
from proofcard.verify.report import Level
from proofcard.verify.steps import Passing

_READ_BY = {"checkpoint": ("structure", "weights"), "source": ("weights",)}
"""The levels that read the tensors of each side."""


@dataclass
class Places:
    """The folders of both sides, and what streams into them."""

    checkpoint: Path
    source: Path | None
    streams: dict[str, Streamed] = field(default_factory=dict)
    passing: Passing = field(default_factory=Passing)

    def identities(self) -> dict[str, str]:
        """Addresses on the hub of the sides that come from there: no local folder's name."""
        return {side: f"hf://{s.repository.name}@{s.repository.commit}" for side, s in self.streams.items()}

    def leave(self, level: str) -> None:
        """A level has ended."""
        for stream in self.streams.values():
            stream.leave(level)


@contextmanager
def opened(config: VerifyConfig, levels: tuple[str, ...]) -> Iterator[Places]:
    """A context in which both sides can be read by the levels.

    What comes from the hub lies below `work_dir` for as long: it is removed when the verification has
    finished, stays if it was interrupted, and stays as a source of `quantize` would with `keep=true`.

    Raises:
        Usage: when a local folder is not there, or an address names no commit.
        Stop: when the hub refuses or cannot be reached.
    """
    checkpoint, source = _local(config.checkpoint, "checkpoint"), None
    if config.source is not None:
        source = _local(config.source, "source")
    sides = {"checkpoint": config.checkpoint, "source": config.source}
    remote = {side: at_address(at.text, side) for side, at in sides.items() if isinstance(at, HubAddress)}
    if not remote:
        yield Places(checkpoint, source)
        return
    root = config.work_dir.absolute() / "verify"
    root.mkdir(parents=True, exist_ok=True)
    works = {side: root / f"{side}-{_folder_name(repository)}" for side, repository in remote.items()}
    records = root / f"steps-{_identity(config, remote)}"
    with ExitStack() as locks:
        locks.callback(_remove_empty, root, root.parent)
        for side in sorted(works):  # in one order: two commands never wait for each other
            lock = works[side].with_name(f"{works[side].name}.lock")
            locks.enter_context(alone(lock, f"verifying {remote[side]} in {shown(root)}", waits=False))
            locks.callback(lock.unlink, missing_ok=True)
        with ExitStack() as stack:
            streams = {}
            for side, repository in remote.items():
                reads = [level for level in _READ_BY[side] if level in levels]
                streams[side] = stack.enter_context(Streamed(repository, works[side], reads, config.keep))
            records.mkdir(exist_ok=True)
            yield Places(
                streams["checkpoint"].folder if "checkpoint" in streams else checkpoint,
                streams["source"].folder if "source" in streams else source,
                streams,
                Passing(tuple(streams.values()), records),
            )
            whole = not any(stream.failed for stream in streams.values())
            if config.keep and whole:
                for side, stream in streams.items():
                    stream.keep(config.work_dir.absolute() / "sources" / _folder_name(remote[side]))
        if whole:
            for folder in (*works.values(), records):
                shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):  # something else is in it
            folder.rmdir()


def side_by_side(checks: Mapping[str, Callable[[], Level]], places: Places) -> dict[str, Level]:
    """Run levels that read the same shards together; integrity last, for files that no level has read."""
    done: dict[str, Level] = {}
    for name in {"structure", "weights"} - checks.keys():
        places.leave(name)

    def follow(name: str) -> None:
        with patient() if LEADS in checks and name != LEADS else nullcontext(), silent():
            done[name] = checks[name]()

    threads = [
        Thread(target=follow, args=(name,), daemon=True)
        for name in checks
        if name not in ("integrity", LEADS)
    ]
    for thread in threads:
        thread.start()
    if LEADS in checks:
        done[LEADS] = checks[LEADS]()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # an interrupt must not wait
    if "integrity" in checks:
        done["integrity"] = checks["integrity"]()
    return done


def report_paths(config: VerifyConfig) -> tuple[Path, Path | None, Path | None]:
    """Where the report goes, and its JUnit and SARIF forms: never inside the checkpoint.

    Raises:
        Usage: for a place inside it, or one that cannot be written.
    """
    inside: Path | None
    if isinstance(config.checkpoint, HubAddress):
        repository = at_address(str(config.checkpoint), "checkpoint")
        usual, inside = Path.cwd() / f"{_folder_name(repository)}.verification.json", None
    else:
        folder = _absolute(config.checkpoint)
        usual = beside(folder, "verification.json", config.work_dir)
        inside = folder
    requested = {"report": config.report or usual, "junit": config.junit, "sarif": config.sarif}
    targets = {key: None if path is None else _absolute(path) for key, path in requested.items()}
    for key, target in targets.items():
        if target is None:
            continue
        if inside is not None and is_inside(target, inside):
            raise Usage(f"{key}={target} would be inside the checkpoint; choose another path")
        if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
            raise Usage(f"the report cannot be written to {target}; choose another path with {key}=FILE")
    report, junit, sarif = targets.values()
    assert report is not None
    return report, junit, sarif


def _absolute(path: Path) -> Path:
    """Links stay: beside a link's own name is where its report belongs."""
    return path.resolve() if path.name in ("", "..") else path.absolute()


def _local(place: Path | HubAddress, side: str) -> Path:
    if isinstance(place, HubAddress):
        return Path()
    path = _absolute(place)
    if side == "checkpoint" and not path.is_dir():
        raise Usage(f"checkpoint={place} is not a folder")
    return path


def _folder_name(repository: Repository) -> str:
    return f"{repository.name.replace('/', '--')}@{repository.commit[:12]}"


def _identity(config: VerifyConfig, remote: dict[str, Repository]) -> str:
    """What the outcome of a step follows from: both sides and this program."""
    sides = {
        "checkpoint": str(remote.get("checkpoint") or config.checkpoint),
        "source": str(remote.get("source") or config.source),
    }
    return sha256_json([sides, own_digest()])[:16]


def own_digest() -> str:
    """Digest of this package's own code: another version may reach another result."""
    package = Path(__file__).resolve().parents[1]
    files = sorted(package.rglob("*.py"))
    return sha256_json([(path.relative_to(package).as_posix(), path.read_text("utf-8")) for path in files])
