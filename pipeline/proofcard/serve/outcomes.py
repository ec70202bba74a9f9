"""How an answer came to its end, in one word, wherever answers are counted rather than shown."""

from typing import Literal, get_args

from proofcard.serve.answers import Answer

Outcome = Literal["answered", "cut", "thinking", "ended", "tool", "refused", "failed"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
"""`answered`: by the model, to its end. `cut`: by the limit of tokens, within the answer. `thinking`: it
ended or was cut before the answer began. `ended`: by the server. `tool`: a tool was called. `refused`: in the
field that servers have for it. `failed`: there was no answer."""


def outcome(answer: Answer, thinks_first: bool) -> Outcome:
    """What became of a request; `thinks_first`: the model begins within thoughts, without a mark.

    A stream without `[DONE]` may have been cut whatever it says, as `transformers serve`'s are.
    """
    if answer.refusal:
        return "refused"
    if answer.thinking or (thinks_first and not answer.said_done and not answer.thoughts):
        return "thinking"
    if answer.calls_tools:
        return "tool"
    if answer.at_length:
        return "cut"
    return "answered" if answer.by_itself else "ended"
