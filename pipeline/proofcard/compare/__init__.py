"""Two checkpoints of one model side by side."""
