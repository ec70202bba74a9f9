import json

from errors import Invalid, described
from router import Router


def run(lines):
    router, found = Router(), []
    for line in lines:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except ValueError as error:
            found.append({"ok": False, **described(Invalid(f"no JSON: {error}"))})
            continue
        found.append(router.handle(request))
    return found
