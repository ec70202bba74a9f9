from collections import Counter


class TagStore:
    def __init__(self, notes):
        self._notes = notes

    def counts(self):
        return dict(Counter(tag for note in self._notes.all() for tag in note["tags"]))

    def notes_with(self, tag):
        wanted = tag.strip().lower()
        return sorted(note["id"] for note in self._notes.all() if wanted in note["tags"])

    def rename(self, old, new):
        found = self.notes_with(old)
        for id in found:
            tags = [tag for tag in self._notes.get(id)["tags"] if tag != old.strip().lower()]
            self._notes.update(id, tags=[*tags, new])
        return len(found)
