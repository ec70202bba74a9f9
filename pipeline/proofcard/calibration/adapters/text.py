"""Plain text in `text`, for recipes without a chat template."""

from proofcard.calibration.rows import Conversation, Row, plain_text


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    return plain_text(row, "text")
