"""What `card` may be asked."""

from pathlib import Path

from proofcard.config.schema import Part, Tracking


class CardConfig(Part):
    """The whole of `card`'s configuration.

    `check` holds a card to its documents instead of writing one. `repository` is where it will be published,
    OWNER/NAME. The licence is taken from the card of `source` unless it is given.
    """

    checkpoint: Path
    check: bool
    title: str | None
    base_model: str | None
    repository: str | None
    source: Path | None
    license: str | None
    license_name: str | None
    license_link: str | None
    tracking: Tracking
    work_dir: Path
