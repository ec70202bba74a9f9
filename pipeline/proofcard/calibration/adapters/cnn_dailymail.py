"""abisee/cnn_dailymail: the `article` without its highlights, for recipes without a chat template."""

from proofcard.calibration.rows import Conversation, Row, plain_text


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    return plain_text(row, "article")
