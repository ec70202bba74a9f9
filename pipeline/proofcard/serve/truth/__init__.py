"""Known-answer check: questions with known answers that an engine must pass before its results count."""

from proofcard.serve.truth.ask import examine, prepare, questions, require, section, sentence

__all__ = ["examine", "prepare", "questions", "require", "section", "sentence"]
