import re

from errors import Invalid


def make_id(kind, number):
    if not isinstance(kind, str) or not re.fullmatch("[a-z]+", kind):
        raise Invalid(f"no kind: {kind!r}")
    if type(number) is not int or number < 1:
        raise Invalid(f"no number: {number!r}")
    return f"{kind}-{number:04d}"


def parse_id(text):
    found = re.fullmatch("([a-z]+)-([0-9]{4,})", text) if isinstance(text, str) else None
    if found is None or int(found[2]) < 1 or make_id(found[1], int(found[2])) != text:
        raise Invalid(f"no id: {text!r}")
    return found[1], int(found[2])
