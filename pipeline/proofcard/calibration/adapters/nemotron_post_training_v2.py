"""nvidia/Nemotron-Post-Training-Dataset-v2: `messages` of role/content pairs."""

from proofcard.calibration.rows import Conversation, Row, conversation, lines, turns_of


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    turns = turns_of(row, "messages", "role", "content")
    return conversation(turns, lines(turns))
