"""Quick truth: questions whose answers are known, asked of an engine before it is trusted with anything."""

from proofcard.serve.truth.ask import Verdict, Verdicts, examine, prepare, questions

__all__ = ["Verdict", "Verdicts", "examine", "prepare", "questions"]
