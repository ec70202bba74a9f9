"""nvidia/Nemotron-Post-Training-Dataset-v2: `messages` of role/content pairs."""

from proofcard.calibration.rows import Conversation, Row, conversation, lines, turns_of


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    turns = turns_of(row, "messages", "role", "content")
    return conversation(turns, lines(turns))
