"""The two files of a sample set."""

INDEX = "samples.jsonl"
"""One record per sample."""

TOKENS = "tokens.safetensors"
"""`input_ids` int32 of all samples end to end, and `lengths` int64 [samples]."""
