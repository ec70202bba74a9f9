"""The files of a sealed evaluation."""

NUMBERS, TEXTS, VALUES = "evaluation.json", "texts.jsonl", "positions.safetensors"
