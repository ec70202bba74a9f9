"""nvidia/Llama-Nemotron-Post-Training-Dataset: `system_prompt`, `input` messages, their `output`.

The system prompt switches the reasoning on and off. ModelOpt's plain text leaves it out.
"""

from proofcard.calibration.rows import Conversation, Row, input_and_output, text_of


def read(row: Row) -> Conversation:
    """Read a row with these columns; raises UnreadableRow for any other."""
    turns = input_and_output(row)
    system = text_of(row, "system_prompt") if row.get("system_prompt") else ""
    prompt = [{"role": "system", "content": system}] if system else []
    return Conversation((*prompt, *turns.messages), turns.text)
