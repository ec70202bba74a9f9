"""Magpie-Align/Magpie-Pro-MT-300K-v0.1: `conversations` of from/value pairs."""

from proofcard.calibration.rows import AS_THEY_ARE, Conversation, Row, conversation, lines, turns_of

_SHAREGPT = {"human": "user", "gpt": "assistant"} | AS_THEY_ARE


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    turns = turns_of(row, "conversations", "from", "value", _SHAREGPT)
    return conversation(turns, lines(turns))
