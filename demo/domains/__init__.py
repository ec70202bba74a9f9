"""Grammars of the demo texts, one module per subject; each draws from the `random.Random` it is given."""

NAMES = ["Mia", "Leo", "Ana", "Tom", "Eva", "Sam", "Ida", "Max", "Zoe", "Ben", "Lea", "Kai"]
