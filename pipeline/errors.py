"""The one exception that is meant for a person to read."""


class Stop(Exception):
    """Work cannot go on; the message says in plain words what is wrong and what to do about it."""


class Usage(Stop):
    """The command or its configuration is wrong, and nothing was started."""
