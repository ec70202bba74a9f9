"""Plain text in `text`, for recipes without a chat template."""

from proofcard.calibration.rows import Conversation, Row, plain_text


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    return plain_text(row, "text")
