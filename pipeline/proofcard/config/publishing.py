"""What `publish` may be asked."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from proofcard.config.schema import Part, Tracking


def _repository(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", name) is None:
        raise ValueError("OWNER/NAME, as the hub has it")
    return name


class PublishConfig(Part):
    """The whole of `publish`'s configuration.

    `source` proves the weights now; without it, a verification of this very manifest must have done so.
    `public_key` checks the signature that is sent along.
    `yes` publishes without a question. A token is never a setting: the client reads HF_TOKEN or a login.
    """

    checkpoint: Path
    repository: Annotated[str, AfterValidator(_repository)]
    source: Path | None
    public_key: Path | None
    private: bool
    yes: bool
    tracking: Tracking
    work_dir: Path
