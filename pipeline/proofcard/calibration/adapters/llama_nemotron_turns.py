"""The columns of llama_nemotron without the system prompt, as ModelOpt reads them."""

from proofcard.calibration.rows import Conversation, Row, input_and_output


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    return input_and_output(row)
