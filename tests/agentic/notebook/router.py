from errors import Invalid, described
from graph import reachable
from link_store import LinkStore
from note_store import NoteStore
from outline import outline
from search import search
from tag_store import TagStore

ACTIONS = {
    "add": ({"title"}, {"body", "tags"}),
    "get": ({"id"}, set()),
    "search": ({"query"}, set()),
    "link": ({"source", "target"}, set()),
    "reachable": ({"id", "depth"}, set()),
    "tags": (set(), set()),
    "outline": (set(), set()),
    "remove": ({"id"}, set()),
    "rename_tag": ({"old", "new"}, set()),
}


class Router:
    def __init__(self):
        self.notes = NoteStore()
        self.links, self.tags = LinkStore(self.notes), TagStore(self.notes)
        self._done = []

    def handle(self, request):
        try:
            return {"ok": True, "result": self._handle(request)}
        except Exception as error:
            return {"ok": False, **described(error)}

    def _handle(self, request):
        if not isinstance(request, dict):
            raise Invalid("a request is a dict")
        given = dict(request)
        action = given.pop("action", None)
        if action not in ACTIONS:
            raise Invalid(f"no action {action!r}")
        needed, optional = ACTIONS[action]
        if needed - set(given) or set(given) - needed - optional:
            raise Invalid(f"wrong arguments of {action}")
        result = getattr(self, f"_{action}")(**given)
        self._done.append(action)
        return result

    def history(self):
        return list(self._done)

    def _add(self, title, body="", tags=()):
        return self.notes.add(title, body, tags)

    def _get(self, id):
        return self.notes.get(id)

    def _search(self, query):
        return search(self.notes, query)

    def _link(self, source, target):
        return self.links.link(source, target)

    def _reachable(self, id, depth):
        return reachable(self.links, id, depth)

    def _tags(self):
        return self.tags.counts()

    def _outline(self):
        return outline(self.notes)

    def _remove(self, id):
        return self.notes.remove(id)

    def _rename_tag(self, old, new):
        return self.tags.rename(old, new)
