"""A model that builds a program by calling tools, each task checked by tests that it has not seen."""
