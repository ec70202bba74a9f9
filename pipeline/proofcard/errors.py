"""The exceptions that are meant for a person to read, and other ones put on a line for one."""

from pathlib import Path


class Stop(Exception):
    """Work cannot go on; the message says in plain words what is wrong and what to do about it."""


class Usage(Stop):
    """The command or its configuration is wrong, and nothing was started."""


def one_line(error: BaseException, **places: Path) -> str:
    """An error's message on one line, each named folder's path replaced by its name."""
    text = str(error)
    for name, path in sorted(places.items(), key=lambda place: -len(str(place[1]))):
        text = text.replace(f"{path}/", "").replace(str(path), name)
    return " ".join(text.split()) or type(error).__name__
