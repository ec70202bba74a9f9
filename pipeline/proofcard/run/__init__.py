"""The whole chain, from a recipe to a signed card: each stage is a command in a process of its own."""
