"""The hub's interface for writing, for tests/hub.py: what huggingface_hub 0.36.2 and 1.33 send on an upload.

Repositories are made, files are sent to LFS storage in one or several parts, and a commit names them.
Objects in the storage stay without a commit, as at the hub: a client need not send them again.
"""

import base64
import hashlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from hub import Repository, _Handler

Answer = tuple[int, Any, dict[str, str]]
REGULAR = 10_000  # bytes; a larger file lies in LFS whatever its name


@dataclass
class Uploads:
    """The storage, and faults that are asked for.

    `token` is the one that may write. More than `part` bytes are sent in parts of that size. `answers` are
    statuses and messages of the next requests by kind: create, validate, preupload, batch, put, commit, tag.
    `cuts` are counts of bytes of an object after which the connection breaks.
    """

    token: str = "hf_writer_of_the_tests"
    part: int = 1 << 30
    storage: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    answers: dict[str, deque[tuple[int, str]]] = field(default_factory=dict)
    cuts: deque[int] = field(default_factory=deque)
    sent: list[str] = field(default_factory=list)
    lost: int = 0  # commits that are made and whose answer does not come

    def refuse(self, kind: str, status: int, message: str = "", times: int = 1) -> None:
        """The next requests of a kind are answered by `status` with the hub's `message`."""
        self.answers.setdefault(kind, deque()).extend([(status, message)] * times)


def answer(handler: "_Handler") -> bool:
    """Answer a request that writes; False for any other."""
    url = urlsplit(handler.path)
    steps = url.path.strip("/").split("/")
    kind = _kind(handler.command, steps)
    if kind is None:
        return False
    if kind == "put":
        _put(handler, steps[1], parse_qs(url.query).get("part", [""])[0])
        return True
    handler.take_body()
    uploads = handler.hub.uploads
    if uploads.answers.get(kind):
        status, message = uploads.answers[kind].popleft()
        handler._fault(status, "", message)
    elif (
        kind not in ("validate", "complete")
        and handler.headers.get("Authorization") != f"Bearer {uploads.token}"
    ):
        handler._fault(401, "", "Invalid username or password.")
    else:
        made = _ANSWERS[kind](handler, steps)
        if made is not None:
            handler._json(made)
    return True


def _kind(method: str, steps: list[str]) -> str | None:
    if method == "PUT" and steps[0] == "lfs":
        return "put"
    if method == "POST" and steps[0] == "lfs":
        return "complete"
    if method == "POST" and steps[:3] == ["api", "repos", "create"]:
        return "create"
    if method == "POST" and steps == ["api", "validate-yaml"]:
        return "validate"
    if method == "POST" and steps[-1] == "batch":
        return "batch"
    if method in ("POST", "DELETE") and len(steps) > 4 and steps[4] in ("preupload", "commit", "tag"):
        return steps[4]
    return None


def _create(handler: "_Handler", steps: list[str]) -> Any:
    asked = json.loads(handler.body)
    name = f"{asked['organization']}/{asked['name']}"
    if ("model", name) in handler.hub.repositories:
        handler._fault(409, "", "You already created this model repo")
        return None
    private = asked.get("private") is True or asked.get("visibility") == "private"
    handler.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
    handler.hub.repositories["model", name].private = private
    return {"url": f"{handler.hub.endpoint}/{name}", "id": name, "name": name}


def _validate(handler: "_Handler", steps: list[str]) -> Any:
    return {"errors": [], "warnings": []}


def _preupload(handler: "_Handler", steps: list[str]) -> Any:
    from hub import LFS, _blob, _sha256

    there = _repository(handler, steps).files_of("main")
    made = []
    for file in json.loads(handler.body)["files"]:
        large = file["path"].endswith(LFS) or file["size"] > REGULAR
        entry = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if file["path"] in there:
            body = there[file["path"]]
            entry["oid"] = _sha256(body) if large else _blob(body)
        made.append(entry)
    return {"files": made}


def _batch(handler: "_Handler", steps: list[str]) -> Any:
    uploads, objects = handler.hub.uploads, []
    for each in json.loads(handler.body)["objects"]:
        oid, size = each["oid"], each["size"]
        if oid not in uploads.storage:
            place = f"{handler.hub.endpoint}/lfs/{oid}"
            header = {}
            if size > uploads.part:
                count = -(-size // uploads.part)
                header = {"chunk_size": str(uploads.part)}
                header |= {str(n + 1): f"{place}?part={n + 1}" for n in range(count)}
            each = each | {"actions": {"upload": {"href": place, "header": header}}}
        objects.append(each)
    return {"objects": objects, "transfer": "multipart"}


def _put(handler: "_Handler", oid: str, part: str) -> None:
    """Take an object, or a part of one; or the first bytes of it, and break off."""
    uploads, left = handler.hub.uploads, int(handler.headers.get("Content-Length") or 0)
    if uploads.cuts:
        handler.rfile.read(min(uploads.cuts.popleft(), left))
        handler.close_connection = True
        handler.connection.close()
        return
    body = handler.rfile.read(left)
    if uploads.answers.get("put"):
        status, message = uploads.answers["put"].popleft()
        return handler._fault(status, "", message)
    uploads.sent.append(oid)
    if part:
        uploads.parts.setdefault(oid, {})[int(part)] = body
    elif hashlib.sha256(body).hexdigest() == oid:
        uploads.storage[oid] = body
    else:
        return handler._fault(400, "", "the content does not have this digest")
    handler._send(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})


def _complete(handler: "_Handler", steps: list[str]) -> Any:
    uploads, asked = handler.hub.uploads, json.loads(handler.body)
    parts = uploads.parts.pop(asked["oid"])
    body = b"".join(parts[each["partNumber"]] for each in asked["parts"])
    assert hashlib.sha256(body).hexdigest() == asked["oid"]
    uploads.storage[asked["oid"]] = body
    return {}


def _commit(handler: "_Handler", steps: list[str]) -> Any:
    uploads, repository = handler.hub.uploads, _repository(handler, steps)
    files, header = dict(repository.files_of("main")), {}
    for line in handler.body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "header":
            header = value
        elif item["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            files[value["path"]] = uploads.storage[value["oid"]]
        else:
            del files[value["path"]]
    if header.get("parentCommit") not in (None, repository.main):
        handler._fault(412, "", "A commit has happened since. Please refresh and try again.")
        return None
    commit = handler.hub.add("/".join(steps[2:4]), files)
    if uploads.lost:
        uploads.lost -= 1
        handler.close_connection = True
        handler.connection.close()
        return None
    page = f"{handler.hub.endpoint}/{'/'.join(steps[2:4])}/commit/{commit}"
    return {"success": True, "commitOid": commit, "commitUrl": page}


def _tag(handler: "_Handler", steps: list[str]) -> Any:
    repository = _repository(handler, steps)
    if handler.command == "DELETE":
        del repository.tags[steps[5]]
        return {}
    name = json.loads(handler.body)["tag"]
    if name in repository.tags:
        handler._fault(409, "", "Tag already exists")
        return None
    repository.tags[name] = repository.main if steps[5] == "main" else steps[5]
    return {}


def _repository(handler: "_Handler", steps: list[str]) -> "Repository":
    return handler.hub.repositories["model", "/".join(steps[2:4])]


_ANSWERS = {
    "create": _create, "validate": _validate, "preupload": _preupload, "batch": _batch, "complete": _complete,
    "commit": _commit, "tag": _tag,
}  # fmt: skip
