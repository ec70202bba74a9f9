"""Predicts what a recipe will do from config.json alone, without weights or a GPU."""
