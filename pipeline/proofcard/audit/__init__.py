"""Claims of a published card, each with how it is checked, and the verdicts."""
