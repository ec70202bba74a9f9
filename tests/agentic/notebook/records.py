from errors import Invalid
from ids import make_id


def make_note(number, title, body="", tags=()):
    if not isinstance(title, str) or not title.strip():
        raise Invalid("a note needs a title")
    kept = {tag.strip().lower() for tag in tags}
    return {
        "id": make_id("note", number),
        "title": " ".join(title.split()),
        "body": body,
        "tags": sorted(kept - {""}),
    }
