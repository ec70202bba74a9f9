"""Quick truth: questions whose answers are known, asked of an engine before it is trusted with anything."""

from proofcard.serve.truth.ask import Verdict, Verdicts, examine, questions

__all__ = ["Verdict", "Verdicts", "examine", "questions"]
