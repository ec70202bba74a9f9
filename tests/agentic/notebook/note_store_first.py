from errors import Invalid, NotFound
from ids import parse_id
from records import make_note


class NoteStore:
    def __init__(self):
        self._notes = {}
        self._next = 1

    def add(self, title, body="", tags=()):
        note = make_note(self._next, title, body, tags)
        self._notes[note["id"]] = note
        self._next += 1
        return note["id"]

    def get(self, id):
        if id not in self._notes:
            raise NotFound(f"no note {id}")
        note = self._notes[id]
        return {**note, "tags": list(note["tags"])}

    def update(self, id, **changes):
        note = self.get(id)
        wrong = set(changes) - {"title", "body", "tags"}
        if wrong:
            raise Invalid(f"a note has no {sorted(wrong)[0]} to change")
        note.update(changes)
        number = parse_id(id)[1]
        self._notes[id] = make_note(number, note["title"], note["body"], note["tags"])

    def all(self):
        return [self.get(id) for id in sorted(self._notes, key=lambda id: parse_id(id)[1])]
