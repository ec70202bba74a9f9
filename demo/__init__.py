"""The demo: a small, trained MiniMax-M2 checkpoint and five small datasets, made here from a seed."""
