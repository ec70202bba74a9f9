"""`sign`: signatures beside a sealed checkpoint.

uv run proofcard sign checkpoint=runs/checkpoints/demo key=runs/keys/demo.pem create_key=true
"""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.config import compose
from proofcard.config.signing import SignConfig
from proofcard.documents.signing import Signing
from proofcard.errors import Usage, before_work
from proofcard.extras import require
from proofcard.files import is_inside
from proofcard.screen import Screen
from proofcard.sign.signing import sign, verify_command


def run(overrides: list[str]) -> int:
    """Sign, write and track what was signed. Returns 0.

    Raises:
        Usage: when nothing was started.
        Stop: when a file is not as it was sealed, or the signer does not answer.
    """
    config = compose(SignConfig, "sign", overrides)
    require("sign", "sign")
    with before_work():
        report = report_path(config)
    subject = tracking.subject_of(config.checkpoint)
    with tracking.opened(config.tracking, "sign", config.work_dir, subject=subject) as tracker:
        made = sign(config)
        tracker.tags({"signed_by": made.signer.subject or made.signer.public_key or made.signer.method})
        for each in made.written:
            tracker.file(config.checkpoint / each.name, "signatures")
        outcome.deliver(made, report, partial(_show, config, made), tracker, "signatures")
    return 0


def report_path(config: SignConfig) -> Path:
    """Where the report goes: beside the checkpoint, as a verification's. Raises Usage for one inside it."""
    folder = config.checkpoint.absolute()
    report = (config.report or folder.with_name(f"{folder.name or 'checkpoint'}.signing.json")).absolute()
    if is_inside(report, config.checkpoint):
        raise Usage(f"report={report} would lie inside the checkpoint: choose another place")
    return report


def _show(config: SignConfig, made: Signing, out: Screen) -> None:
    who = made.signer.subject or made.signer.public_key or "an identity of yours"
    out.print(f"signed       {made.files_signed} files, {made.bytes_signed / 1e6:.1f} MB", soft_wrap=True)
    out.print(f"by           {made.signer.method} {who}", soft_wrap=True)
    for each in made.written:
        out.print(f"written      {each.name}", soft_wrap=True)
    for line in made.missing:
        out.print(f"left out     {line}", soft_wrap=True)
    out.print(f"verify it    {verify_command(config)}", soft_wrap=True)
