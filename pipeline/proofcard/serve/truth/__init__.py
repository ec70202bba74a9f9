"""Quick truth: questions whose answers are known, asked of an engine before it is trusted with anything."""

from proofcard.serve.truth.ask import examine, prepare, questions, require, section, sentence

__all__ = ["examine", "prepare", "questions", "require", "section", "sentence"]
