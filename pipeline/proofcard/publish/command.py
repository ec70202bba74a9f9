"""`publish`: a checkpoint that verifies and whose card agrees, to the hub, and back for a check.

uv run proofcard publish checkpoint=runs/checkpoints/demo repository=OWNER/NAME             # shows, then asks
uv run proofcard publish checkpoint=runs/checkpoints/demo repository=OWNER/NAME yes=true    # for scripts
"""

import re
import sys
from functools import partial

from proofcard import manifest, outcome, redact, tracking
from proofcard.card import checking
from proofcard.card.facts import short_size
from proofcard.checkpoint.repository import quiet
from proofcard.config import compose
from proofcard.config.publishing import PublishConfig
from proofcard.documents.manifest import Manifest
from proofcard.documents.published import Published
from proofcard.documents.verification import LevelResult
from proofcard.errors import Stop, Usage, before_work
from proofcard.evidence import checkpoint_of, gathered
from proofcard.files import exists
from proofcard.grid import Grid
from proofcard.pasted import command
from proofcard.publish import leaks, proving, refusals, repository, sending
from proofcard.publish.content import Outgoing, outgoing
from proofcard.screen import Screen
from proofcard.tracking import Tracker

_TOKEN = re.compile(r"\+*(hf_|api_|access_)?token=|.*\bhf_[A-Za-z0-9]{16,}", re.IGNORECASE)
_MOST = 60  # files in the table


def run(overrides: list[str]) -> int:
    """Check, show, ask, send, read back. Returns 0.

    Raises:
        Usage: when nothing was sent: it does not verify, its card disagrees, or it may not go there.
        Stop: when the hub refuses, cannot be reached, or has something else afterwards.
    """
    if any(_TOKEN.match(word) for word in overrides):
        raise Usage(
            "everybody on this machine can read a token on the command line: revoke it, and set HF_TOKEN or "
            "log in with `hf auth login` instead"
        )
    config = compose(PublishConfig, "publish", overrides)
    with before_work():
        redact.hide(refusals.require_token())
        quiet()
        sealed, files, levels = _ready(config)
        existing = repository.look(config.repository)
        former = [] if existing is None else repository.check_free(
            config.repository, existing, sealed, files, config.private
        )  # fmt: skip
        _show(config, sealed, files, levels, existing, former)
        _ask(config)
    subject = tracking.of_sealed(sealed)
    with tracking.opened(config.tracking, "publish", config.work_dir, subject=subject) as tracker:
        if existing is None:
            sending.create(config.repository, config.private)
            existing = repository.look(config.repository)
            if existing is None:
                raise Stop(
                    f"{config.repository} was made, but this token may not read it: give it read permission"
                )
        message = (
            f"{sealed.recipe or 'Checkpoint'} {sealed.key[:12]}",
            f"Key {sealed.key}, published by proofcard.",
        )
        commit = sending.send(config.repository, files, former, existing.commit, message)
        found = repository.read_back(config.repository, commit, sealed, files)
        sending.tag(config.repository, sealed.key, commit, existing)
        published = Published(
            key=sealed.key, recipe=sealed.recipe, repository=config.repository, commit=commit, tag=sealed.key,
            private=config.private, manifest_sha256=proving.manifest_sha256(config.checkpoint), levels=levels,
            files=found, tensors=len(sealed.outputs.tensors),
            verify=f"proofcard verify checkpoint=hf://{config.repository}@{commit}",
        )  # fmt: skip
        _track(tracker, published)
        beside = config.checkpoint.absolute()
        outcome.deliver(
            published,
            beside.with_name(f"{beside.name}.published.json"),
            partial(_tell, published),
            tracker,
            "publish",
        )
    return 0


def _ready(config: PublishConfig) -> tuple[Manifest, list[Outgoing], dict[str, LevelResult]]:
    """The checkpoint, what of it goes out, and what was proved of it."""
    sealed = checkpoint_of(config.checkpoint)
    documents = gathered(sealed, config.checkpoint, config.work_dir)
    if not exists(config.checkpoint / "README.md"):
        raise Stop(
            f"{config.checkpoint} has no card: write one with {command('card', checkpoint=config.checkpoint)}"
        )
    levels = proving.levels(config.checkpoint, config.source, config.public_key, documents)
    checking.check(config.checkpoint, sealed, documents)
    files = outgoing(config.checkpoint, sealed)
    leaks.check(files, config.checkpoint, config.work_dir)
    return sealed, files, levels


def _show(
    config: PublishConfig,
    sealed: Manifest,
    files: list[Outgoing],
    levels: dict[str, LevelResult],
    existing: repository.Existing | None,
    former: list[str],
) -> None:
    """What will go where."""
    out = Screen()
    table = Grid("file", "size", "", left=(0, 2))
    for file in files[:_MOST]:
        seal = "the seal" if file.name == manifest.NAME else "beside the seal"
        table.add_row(file.name, short_size(file.size), "sealed" if file.sealed else seal)
    if len(files) > _MOST:
        table.add_row(
            f"and {len(files) - _MOST} more", short_size(sum(file.size for file in files[_MOST:])), ""
        )
    out.print()
    out.print(table)
    out.print()
    state = "new" if existing is None else f"exists, main at {existing.commit[:12]}"
    moved = "" if existing is None else existing.tags.get(sealed.key, "")
    lines = [
        ("repository", f"{config.repository} ({state})"),
        ("readable by", "its owner's members only (private)" if config.private else "everybody (public)"),
        ("tag", sealed.key + (f" (now at {moved[:12]}; it follows main)" if moved else "")),
        ("verified", ", ".join(levels)),
        ("in all", f"{short_size(sum(file.size for file in files))} in {len(files)} files, one commit"),
    ]
    if former:
        lines.append(("deleted there", ", ".join(former)))
    for label, value in lines:
        out.print(f"{label:<14} {value}", soft_wrap=True)


def _ask(config: PublishConfig) -> None:
    """Raises Usage unless it was answered, or asked, to publish."""
    if config.yes:
        return
    if not sys.stdin.isatty():
        raise Usage("nothing was sent: give yes=true where nobody can be asked")
    print("publish? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Usage("nothing was sent")


def _track(tracker: Tracker, published: Published) -> None:
    """Where it is, and that it was read back: the alias `published`."""
    tracker.tags(
        {
            "result": "published",
            "repository": published.repository,
            "commit": published.commit,
            "private": str(published.private).lower(),
        }
    )
    tracker.published(f"{published.repository}@{published.commit}")


def _tell(published: Published, out: Screen) -> None:
    for label, value in (
        ("published", f"{published.repository} at {published.commit}"),
        ("tag", published.tag),
        (
            "read back",
            f"{len(published.files)} files and the headers of {published.tensors:,} tensors: as sealed",
        ),
        ("to verify", published.verify),
    ):
        out.print(f"{label:<14} {value}", soft_wrap=True)
