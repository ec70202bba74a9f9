"""Which files may lie beside sealed content without being part of it; docs/manifest.md has the table."""

from fnmatch import fnmatchcase

_FILES = (
    "README.md", "README.html",  # the model card
    ".gitattributes", ".gitignore",
    "*.sig", "*.sigstore", "*.sigstore.json", "*.intoto.json", "*.intoto.jsonl", "*.cdx.json",
)  # fmt: skip
_FOLDERS = {  # files directly in them
    ".eval_results": ("*.yaml",),
    ".proofcard": ("*.json", "*.svg"),  # what the model card quotes, and its charts
}
_TREES = (".cache/huggingface",)  # everything below, as left by `hf download --local-dir`


def may_lie_beside(name: str) -> bool:
    """Whether a file with this name, relative to the sealed folder in POSIX form, may exist without a seal.

    Such files are listed in reports, but never hashed into the seal and never executed.
    """
    folder, _, file = name.rpartition("/")
    if not folder:
        return any(fnmatchcase(file, pattern) for pattern in _FILES)
    if folder in _FOLDERS:
        return any(fnmatchcase(file, pattern) for pattern in _FOLDERS[folder])
    return any(name.startswith(f"{tree}/") for tree in _TREES)


def in_short(names: list[str]) -> list[str]:
    """Such files for a sentence: the files of one folder, or of a download's cache, by their number."""
    inside: dict[str, list[str]] = {}
    for name in names:
        tree = next((tree for tree in _TREES if name.startswith(f"{tree}/")), name.rpartition("/")[0])
        inside.setdefault(tree, []).append(name)
    alone = sorted(name for tree, found in inside.items() if not tree or len(found) == 1 for name in found)
    several = [f"{tree} ({len(found)} files)" for tree, found in inside.items() if tree and len(found) > 1]
    return [*alone, *sorted(several)]
