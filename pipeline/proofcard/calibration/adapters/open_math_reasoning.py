"""nvidia/OpenMathReasoning: `problem` and `generated_solution`."""

from proofcard.calibration.rows import Conversation, Row, question_and_answer


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    return question_and_answer(row, "problem", "generated_solution")
