"""`publish`: a proved checkpoint with its card to a repository of the hub, and back for a check."""
