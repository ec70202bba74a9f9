"""The documents that there are of a checkpoint: its manifest, and what commands have left about it.

They are matched by the checkpoint's key, never by where they lie, and read as JSON values of a known schema.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.documents.former import renamed
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.files import check_handed, read_bytes

_LARGEST = 32 << 20  # bytes of a document; an evaluation of 16,000 experts takes 3 MB
_MOST = 2000  # files that are looked at

Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """Documents of one schema, whatever its version. `key` leads to the checkpoint's key, `name` to a name.

    Documents of a kind that differ in name are kept beside each other; of one name the newest counts.
    `folder` is where below `work_dir` they are written; in `reports` is what usually lies beside the
    checkpoint.
    """

    kind: str
    schema: str
    key: tuple[str, ...] | None
    name: tuple[str, ...] | None
    folder: str


KINDS = (
    Kind("verification", "proofcard/verification", ("manifest", "key"), None, "reports"),
    Kind("analysis", "proofcard/analysis", ("checkpoint", "key"), None, "reports"),
    Kind("evaluation", "proofcard/evaluation", ("checkpoint", "key"), None, "reports"),
    Kind("reproduction", "proofcard/reproduction", ("recorded_key",), None, "reproductions"),
    Kind("serving", "proofcard/serving", ("key",), ("profile", "name"), "serve"),
    Kind("benchmark", "proofcard/benchmark", ("server", "key"), ("name",), "benchmarks"),
    Kind("tasks", "proofcard/tasks", ("candidate", "key"), ("name",), "tasks"),
    Kind("agentic", "proofcard/agentic", ("server", "key"), ("name",), "agentic"),
    Kind("plan", "proofcard/plan", None, None, "plans"),
    Kind("audit", "proofcard/audit", None, ("claims_file",), "audits"),
)  # fmt: skip
"""What a card is made from, beside the manifest."""


@dataclass(frozen=True)
class Evidence:
    """A document: its kind, its name among those of its kind, where it lies, its digest, and its values."""

    kind: str
    name: str
    path: Path
    sha256: str
    text: str
    values: Values

    @property
    def schema(self) -> str:
        """The schema that the document names."""
        return str(self.values["schema"])


def gathered(manifest: Manifest, checkpoint: Path, work_dir: Path) -> list[Evidence]:
    """The newest document of each kind and name that is about the checkpoint, in the order of `KINDS`."""
    found: dict[tuple[str, str], tuple[int, Evidence]] = {}
    for path in _candidates(checkpoint, work_dir):
        one = opened(path, path.parent)
        if one is None or not about(one, manifest):
            continue
        when = path.stat().st_mtime_ns
        former = found.get((one.kind, one.name))
        if former is None or (when, str(path)) > (former[0], str(former[1].path)):
            found[one.kind, one.name] = (when, one)
    return in_order([one for _, one in found.values()])


def in_order(found: list[Evidence]) -> list[Evidence]:
    """By kind as in `KINDS`, then by name."""
    place = {kind.kind: number for number, kind in enumerate(KINDS)}
    return sorted(found, key=lambda one: (place[one.kind], one.name))


def opened(path: Path, root: Path) -> Evidence | None:
    """The document in a file, or nothing where the file holds no document of `KINDS`."""
    try:
        content = read_bytes(path, root, _LARGEST)
        values = renamed(json_files.parse(content, path.name))
    except (OSError, Stop):
        return None
    kind = kind_of(values)
    if kind is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    name = str(_at(values, kind.name)) if kind.name is not None else ""
    return Evidence(kind.kind, name, path, digest, content.decode(), values)


def kind_of(values: Any) -> Kind | None:
    """The kind whose schema a JSON value names."""
    schema = values.get("schema") if isinstance(values, dict) else None
    if not isinstance(schema, str):
        return None
    return next((kind for kind in KINDS if schema.rpartition("/")[0] == kind.schema), None)


def about(one: Evidence, manifest: Manifest) -> bool:
    """Whether a document is about the checkpoint: by its key; a plan by its configuration."""
    if one.kind == "plan":
        return contains(one.values.get("config"), manifest.config)
    if one.kind == "audit":
        return one.values.get("recipe") == manifest.recipe and one.values.get("key") in (None, manifest.key)
    if one.kind == "benchmark" and one.values.get("complete") is not True:
        return False
    kind = next(kind for kind in KINDS if kind.kind == one.kind)
    return _at(one.values, kind.key) == manifest.key


def contains(whole: Any, part: Any) -> bool:
    """Whether every value of `part` is the same in `whole`; further fields of objects are free."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            name in whole and contains(whole[name], value) for name, value in part.items()
        )
    return bool(whole == part)


def _candidates(checkpoint: Path, work_dir: Path) -> Iterator[Path]:
    """JSON files beside the checkpoint that begin with a name of its, and those of the folders of `KINDS`.

    A link beside the checkpoint that leads to it is another name of it.
    """
    folders = {checkpoint.absolute().parent, checkpoint.resolve().parent}
    links = [each for folder in folders for each in _listed(folder, "*") if each.is_symlink()]
    same = [link for link in links if link.resolve() == checkpoint.resolve()]
    names = {each.name for each in (checkpoint.absolute(), checkpoint.resolve(), *same)}
    beside = [each for folder in folders for name in names for each in _listed(folder, f"{name}.*")]
    written = [work_dir / kind.folder for kind in KINDS]
    count = 0
    for top in [*beside, *written]:
        for path in [top] if top.suffix == ".json" else [*_listed(top, "*.json"), *_listed(top, "*/*.json")]:
            if path.is_file() and count < _MOST:
                count += 1
                yield path


def _listed(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _at(values: Any, path: tuple[str, ...] | None) -> Any:
    for name in path or ():
        values = values.get(name) if isinstance(values, dict) else None
    return values


def checkpoint_of(folder: Path) -> Manifest:
    """The manifest of a checkpoint that `quantize` sealed.

    Raises:
        Stop: when it is not one.
    """
    from proofcard import manifest

    if not folder.is_dir():
        raise Stop(f"{folder} is not a folder: give the checkpoint of a `quantize` run")
    check_handed(folder)
    found = manifest.read(folder)
    if found.stage != "quantize":
        raise Stop(f"{folder} is the result of `{found.stage}`, not a checkpoint")
    return found
