"""Compares two checkpoints of one model."""
