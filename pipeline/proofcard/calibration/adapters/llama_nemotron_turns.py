"""The columns of llama_nemotron without the system prompt: what ModelOpt reads of them."""

from proofcard.calibration.rows import Conversation, Row, input_and_output


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    return input_and_output(row)
