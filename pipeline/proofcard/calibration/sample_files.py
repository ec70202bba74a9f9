"""The files of a sample set."""

INDEX = "samples.jsonl"
"""One record per sample."""

TEXTS = "texts.jsonl"
"""The text of every sample as it was tokenized, one JSON string a line. Sets of earlier versions lack it."""

TOKENS = "tokens.safetensors"
"""`input_ids` int32 of all samples end to end, and `lengths` int64 [samples]."""
