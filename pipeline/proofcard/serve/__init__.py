"""Serving a checkpoint: an engine started, asked what it must know, and stopped with all its processes."""
