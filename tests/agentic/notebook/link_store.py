from errors import Invalid


class LinkStore:
    def __init__(self, notes):
        self._notes = notes
        self._links = set()

    def link(self, source, target):
        self._notes.get(source)
        self._notes.get(target)
        if source == target:
            raise Invalid("a note is not linked to itself")
        self._links.add((source, target))

    def _there(self):
        known = {note["id"] for note in self._notes.all()}
        return [pair for pair in self._links if known.issuperset(pair)]

    def targets(self, id):
        return sorted(b for a, b in self._there() if a == id)

    def sources(self, id):
        return sorted(a for a, b in self._there() if b == id)
