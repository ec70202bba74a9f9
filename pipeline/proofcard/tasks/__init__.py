"""Two servers asked the same questions, and what the difference between them amounts to."""
