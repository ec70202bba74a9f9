"""Magpie-Align/Magpie-Pro-MT-300K-v0.1: `conversations` of from/value pairs."""

from proofcard.calibration.rows import SAME_ROLES, Conversation, Row, conversation, lines, turns_of

_SHAREGPT = {"human": "user", "gpt": "assistant"} | SAME_ROLES


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    turns = turns_of(row, "conversations", "from", "value", _SHAREGPT)
    return conversation(turns, lines(turns))
