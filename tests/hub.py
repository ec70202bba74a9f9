"""A stand-in for the Hugging Face hub on loopback: enough of its HTTP interface for the real clients.

Held to huggingface_hub 0.36.2 and datasets 4.8.5, from what they send and read: `HfApi.model_info` and
`dataset_info` (files_metadata), `list_repo_tree`, `get_paths_info`, `list_repo_refs`, `hf_hub_download`,
`parse_safetensors_file_metadata`, `HfFileSystem`. What is written goes through tests/hub_uploads.py. Point a
client at it with `HF_ENDPOINT`.

    with Hub() as hub:
        commit = hub.add("org/model", {"config.json": b"{}"})
        hub.cut("model.safetensors", at=1000)
"""

import hashlib
import json
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import hub_uploads

LFS = (".safetensors", ".parquet", ".bin", ".arrow")  # what a repository's .gitattributes puts into LFS


class Asked(NamedTuple):
    """One request: `range` and `authorization` are its headers, empty when there were none."""

    method: str
    path: str
    range: str
    authorization: str


@dataclass
class Repository:
    """Its files at every commit, the newest last. With a `token`, nobody else is let in.

    A `private` one is let in to whoever may write (`Uploads.token`).
    """

    kind: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    private: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    def files_of(self, revision: str) -> dict[str, bytes]:
        """The files of a branch, tag or commit. Raises KeyError."""
        return self.commits[self.main if revision == "main" else self.tags.get(revision, revision)]

    @property
    def main(self) -> str:
        """The commit of the branch main."""
        return list(self.commits)[-1]


class Hub:
    """A context that serves, at any free port unless one is given.

    Faults are asked for by file name and each happens `times` times.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Asked] = []
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.refusals: deque[tuple[int, dict[str, str]]] = deque()  # status and headers of the next answers
        self.cuts: dict[str, deque[int]] = {}
        self.wrong: set[str] = set()
        self.held: dict[str, threading.Event] = {}
        self.moved: dict[str, str] = {}  # former names of models
        self.uploads = hub_uploads.Uploads()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: dict[str, bytes] | Path, kind: str = "model", **access: Any) -> str:
        """A commit to a repository, made when there is none; `access` is `token` and `gated`. Returns it."""
        if isinstance(files, Path):
            root = files
            files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        commit = hashlib.sha1(repr(sorted((n, _sha256(b)) for n, b in files.items())).encode()).hexdigest()
        repository = self.repositories.setdefault((kind, name), Repository(kind, **access))
        repository.commits.pop(commit, None)  # the same files again: the newest is the last
        repository.commits[commit] = files
        return commit

    def refuse(self, status: int, times: int = 1, **headers: str) -> None:
        """The next requests are answered by `status`; `Retry_After="1"` is a header of that name."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusals.extend([(status, said)] * times)

    def cut(self, file: str, at: int, times: int = 1) -> None:
        """The connection breaks after `at` bytes of an answer with the file's content."""
        self.cuts.setdefault(file, deque()).extend([at] * times)

    def hold(self, file: str) -> threading.Event:
        """The file's content is served only from when the event is set; its header (a first range) is."""
        return self.held.setdefault(file, threading.Event())

    def asked(self, file: str, method: str = "GET") -> list[Asked]:
        """The requests for a file's content, redirections left out."""
        return [r for r in self.requests if r.method == method and r.path.endswith(f"/{file}?content")]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def take_body(self) -> None:
        """Read the request's content."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self) -> None:
        said = [self.headers.get(name, "") for name in ("Range", "Authorization")]
        self.hub.requests.append(Asked(self.command, self.path, *said))
        if hub_uploads.answer(self):
            return
        self.take_body()
        if self.hub.refusals:
            status, headers = self.hub.refusals.popleft()
            return self._send(status, b"{}", headers)
        url = urlsplit(self.path)
        steps = [unquote(step) for step in url.path.strip("/").split("/")]
        api = steps[0] == "api"
        kind = "dataset" if "datasets" in steps[: 1 + api] else "model"
        steps = steps[1 if api and len(steps) > 1 else 0 :]
        steps = steps[1 if steps[0] in ("models", "datasets") else 0 :]
        name = "/".join(steps[:2])
        if name in self.hub.moved:
            place = self.path.replace(name, self.hub.moved[name], 1)
            return self._send(307, b"", {"Location": f"{self.hub.endpoint}{place}"})
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._fault(404, "RepoNotFound", "Repository not found")
        writes = self.headers.get("Authorization") == f"Bearer {self.hub.uploads.token}"
        if repository.private and not writes:
            return self._fault(401, "RepoNotFound", "Repository not found")
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            if repository.gated and self.headers.get("Authorization"):
                return self._fault(403, "GatedRepo", "You have to accept the licence")
            return self._fault(401, "GatedRepo" if repository.gated else "", "Invalid username or password.")
        what, rest = (steps[2] if len(steps) > 2 else "revision"), steps[3:]
        if what == "refs":
            tags = [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
                for name, commit in repository.tags.items()
            ]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.main}
            return self._json({"branches": [main], "tags": tags, "converts": []})
        revision = rest[0] if rest else "main"
        commit = repository.main if revision == "main" else repository.tags.get(revision, revision)
        files = repository.commits.get(commit)
        if files is None:
            return self._fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if what == "resolve":
            return self._resolve("/".join(rest[1:]), files, commit, "content" in url.query)
        query = parse_qs(url.query)
        if what == "tree":
            return self._tree("/".join(rest[1:]), files, query.get("recursive", [""])[0].lower() == "true")
        if what == "paths-info":
            asked = parse_qs(self.body.decode()).get("paths", [])
            whole = _tree(files)
            return self._json([whole[path.strip("/")] for path in asked if path.strip("/") in whole])
        siblings = [self._sibling(name, files, "blobs" in query) for name in sorted(files)]
        name = "/".join(steps[:2])
        shared = {
            "id": name,
            "sha": commit,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
        }
        return self._json(shared | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def _sibling(self, name: str, files: dict[str, bytes], blobs: bool) -> dict[str, Any]:
        entry = _tree({name: files[name]})[name]
        said: dict[str, Any] = {"rfilename": name}
        if blobs:
            said |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                said["lfs"] = {"size": entry["size"], "sha256": entry["lfs"]["oid"], "pointerSize": 134}
        return said

    def _tree(self, under: str, files: dict[str, bytes], recursive: bool) -> None:
        below = {
            path: entry for path, entry in _tree(files).items() if not under or path.startswith(under + "/")
        }
        depth = under.count("/") + 1 if under else 0
        found = [entry for path, entry in below.items() if recursive or path.count("/") == depth]
        if under and not below:
            return self._fault(404, "EntryNotFound", f"{under} does not exist")
        return self._json(found)

    def _resolve(self, name: str, files: dict[str, bytes], commit: str, content: bool) -> None:
        """Metadata and a redirection for LFS files, as the hub sends them to its storage; or the content."""
        if name not in files:
            return self._fault(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        body = files[name]
        lfs = name.endswith(LFS)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha256(body) if lfs else _blob(body)}"'}
        if lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(body))}
        if not content and (lfs or self.command == "GET"):
            place = f"{self.hub.endpoint}{urlsplit(self.path).path}?content"
            return self._send(302, b"", headers | {"Location": place})
        if self.command == "HEAD":
            return self._send(200, body, headers)
        wanted, status = self.headers.get("Range", ""), 200
        first, last = 0, len(body) - 1
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
            if first > last:
                return self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"], status = f"bytes {first}-{last}/{len(body)}", 206
        header_only = wanted.startswith("bytes=0-")
        if name in self.hub.held and not header_only:
            self.hub.held[name].wait()
        if name in self.hub.wrong and not header_only:
            body = bytes(byte ^ 1 for byte in body)
        cuts = self.hub.cuts.get(name) if not header_only else None
        return self._send(status, body[first : last + 1], headers, cut=cuts.popleft() if cuts else None)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fault(self, status: int, code: str, message: str, more: dict[str, str] | None = None) -> None:
        said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (more or {})
        self._send(status, json.dumps({"error": message}).encode(), said)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # a client that has waited too long has gone
                self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _tree(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Files and folders by path, as the hub lists them."""
    found: dict[str, dict[str, Any]] = {}
    for name, body in sorted(files.items()):
        for cut in (i for i, letter in enumerate(name) if letter == "/"):
            oid = hashlib.sha1(name[:cut].encode()).hexdigest()
            found.setdefault(name[:cut], {"type": "directory", "oid": oid, "size": 0, "path": name[:cut]})
        found[name] = {"type": "file", "oid": _blob(body), "size": len(body), "path": name}
        if name.endswith(LFS):
            found[name]["lfs"] = {"oid": _sha256(body), "size": len(body), "pointerSize": 134}
    return found


def _blob(body: bytes) -> str:
    """git's id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
