"""nvidia/OpenMathReasoning: `problem` and `generated_solution`."""

from proofcard.calibration.rows import Conversation, Row, asked_and_answered


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    return asked_and_answered(row, "problem", "generated_solution")
