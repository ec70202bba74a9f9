"""One truth: every version that a file of this repository names is the one that uv.lock pins.

    python3 scripts/pins.py check             # exit status 1 and a line for each that is not
    python3 scripts/pins.py refresh           # what `make lock` runs
    python3 scripts/pins.py refresh torch     # as well: newer versions of the packages named, or of `all`

`refresh` updates the lock and every file that names its versions, asks the registries for the images'
digests (with skopeo) and for the flake's inputs (with nix), and says what all that invalidates.
It needs nothing but Python's own library, so it runs before any environment is there.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SPELLED = {"modelopt": "nvidia-modelopt", "pytorch": "torch"}  # as sentences call a package
DECIDING = ("nvidia-modelopt", "accelerate", "numpy", "safetensors", "tokenizers", "torch", "transformers")
_UNREAD = (
    "demo/datasets/", "demo/model/", "tests/test_one_truth.py",
    # which releases of other makers wrote what: not what is installed here
    "pipeline/proofcard/checkpoint/dialects/", "pipeline/proofcard/verify/maker.py",
    "tests/checkpoint/dialects/",
)  # fmt: skip
_IMAGE = re.compile(r"(?P<name>(?:docker\.io|ghcr\.io)/[\w./-]+:[\w.-]+)@(?P<digest>sha256:[0-9a-f]{64})")


class Mention(NamedTuple):
    """A version that a file names."""

    path: Path
    line: int
    package: str
    version: str


def locked() -> dict[str, set[str]]:
    """Versions of every package in uv.lock, by name; several where extras want different ones."""
    return _versions((ROOT / "uv.lock").read_text())


@cache
def _versions(lock: str) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for package in tomllib.loads(lock)["package"]:
        versions.setdefault(package["name"], set()).add(package["version"])
    return versions


def direct() -> set[str]:
    """Packages that pyproject.toml asks for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    return {re.split(r"[\[<>=~!; ]", wish)[0].lower() for wishes in lists for wish in wishes}


def exact() -> set[str]:
    """Packages that pyproject.toml pins to one version, which no refresh moves."""
    return set(re.findall(r'"([\w-]+)(?:\[[\w,-]+\])?==', (ROOT / "pyproject.toml").read_text()))


def texts() -> Iterator[Path]:
    """Files in which people write versions: all that git knows but data and the test of this."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    for name in done.stdout.split():
        path = ROOT / name
        written = path.suffix in (".md", ".py", ".yaml", ".toml", ".nix", ".sh", "") and path.is_file()
        if written and not name.startswith(_UNREAD):
            yield path


def mentions() -> Iterator[Mention]:
    """Every version right after its package's name, with a space, `==`, `-` or `:` between."""
    names = direct() | {"uv", *SPELLED}
    pattern = re.compile(
        rf"(?<![\w-])(?P<name>{'|'.join(sorted(map(re.escape, names), key=len, reverse=True))})"
        r"(?:\[[\w,-]+\])?(?: |==|-|:)v?(?P<version>\d+(?:\.\d+)+)(?!\.?\d)",
        re.IGNORECASE,
    )
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for found in pattern.finditer(line):
                name = found["name"].lower()
                yield Mention(path, number, SPELLED.get(name, name), found["version"])


def images() -> Iterator[tuple[Path, str, str]]:
    """Every image that a file names by digest: file, name with tag, digest."""
    for name in ("Dockerfile", "compose.yaml", "compose.gpu.yaml"):
        for found in _IMAGE.finditer((ROOT / name).read_text()):
            yield ROOT / name, found["name"], found["digest"]


def uv_version() -> str:
    """The uv that scripts/uv installs."""
    [version] = re.findall(r"^wanted=([\d.]+)$", (ROOT / "scripts" / "uv").read_text(), re.MULTILINE)
    return str(version)


def disagreements() -> list[str]:
    """A line for every version that is not the locked one."""
    versions = locked() | {"uv": {uv_version()}}
    found = []
    for mention in mentions():
        known = versions.get(mention.package, set())
        if not any(f"{version}.".startswith(f"{mention.version}.") for version in known):
            where = f"{mention.path.relative_to(ROOT)}:{mention.line}"
            pinned = " and ".join(sorted(known)) or "nothing"
            found.append(f"{where} says {mention.package} {mention.version}, uv.lock pins {pinned}")
    [toolkit] = versions["cuda-toolkit"]  # what torch was built with
    for path, name, _ in images():
        if "/cuda:" in name and not name.partition("/cuda:")[2].startswith(f"{toolkit}-"):
            found.append(f"{path.name} takes {name}, torch is locked with CUDA {toolkit}")
    for package in locked().keys() & {"nvidia-modelopt"}:
        for version in versions[package]:
            if not (ROOT / "patches" / f"{package}-{version}").is_dir():
                found.append(f"patches/ has no series for {package} {version}")
    return found + stale_goldens()


def stale_goldens() -> list[str]:
    """A line for every golden digest that was made with another version of a package that decides bytes."""
    versions, found = locked(), []
    for path in sorted((ROOT / "tests").rglob("golden/*.json")):
        for package, version in json.loads(path.read_text())["origin"]["packages"].items():
            if version not in versions.get(package, set()):
                pinned = " and ".join(sorted(versions.get(package, set())))
                found.append(
                    f"{path.relative_to(ROOT)} was made with {package} {version}, uv.lock pins {pinned}"
                )
    return found


def refresh(upgraded: list[str]) -> None:
    """Update the lock and every file that follows from it; print what changed and what that invalidates."""
    before = locked()
    for name in sorted(exact() & set(upgraded)):
        print(f"{name} is pinned in pyproject.toml: write the new version there, then `make lock`")
    wishes = ["--upgrade"] if upgraded == ["all"] else [f"--upgrade-package={name}" for name in upgraded]
    subprocess.run([ROOT / "scripts" / "uv", "lock", "--quiet", *wishes], cwd=ROOT, check=True)
    after = locked()
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    for name in sorted(changed):
        print(f"{name}: {_said(before.get(name))} -> {_said(after.get(name))}")
    for name in sorted(changed & direct()):
        _rename(name, before.get(name, set()), after.get(name, set()))
    _refresh_images()
    _refresh_flake()
    for package in [name for name in DECIDING if name in changed]:
        print(f"{package} decides bytes: every key changes, and no sealed stage is reused")
    for line in disagreements():
        print(line)
    if stale_goldens():
        print("golden digests: look at what changed, then make them anew with tests/quantize/write_golden.py")
    if not changed:
        print("uv.lock pins what it did")


def _said(versions: set[str] | None) -> str:
    return " and ".join(sorted(versions or {"none"}))


def _rename(package: str, old: set[str], new: set[str]) -> None:
    """Write the new version wherever a file names the old one, if it is clear which is meant."""
    gone, come = old - new, new - old
    if len(gone) != 1 or len(come) != 1:
        return
    [was], [now] = gone, come
    for mention in [m for m in mentions() if m.package == package and m.version == was]:
        lines = mention.path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines[mention.line - 1] = lines[mention.line - 1].replace(was, now)
        mention.path.write_text("".join(lines), encoding="utf-8")
        print(f"{mention.path.relative_to(ROOT)}:{mention.line} now says {package} {now}")


def _refresh_images() -> None:
    if shutil.which("skopeo") is None:
        print("images: skopeo is not installed, their digests stay as they are")
        return
    for path, name, digest in list(images()):
        asked = ["skopeo", "inspect", "--format", "{{.Digest}}", f"docker://{name}"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: the registry does not answer, its digest stays as it is")
        elif done.stdout.strip() != digest:
            path.write_text(path.read_text().replace(digest, done.stdout.strip()))
            print(f"{path.name}: {name} is now {done.stdout.strip()}")


def _refresh_flake() -> None:
    if not (ROOT / "flake.nix").exists():
        return
    if shutil.which("nix") is None:
        print("flake.lock: nix is not installed, it stays as it is")
        return
    words = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "update"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = re.search("^error: .*", done.stderr, re.MULTILINE)
        print(f"flake.lock: unchanged, nix reports: {reason[0] if reason else done.stderr.strip()}")
    else:
        print("flake.lock: refreshed; add new pins to tests/nix/test_lock.py")


if __name__ == "__main__":
    task, *rest = sys.argv[1:] or ["check"]
    if task == "refresh":
        refresh(rest)
    else:
        wrong = disagreements()
        print("\n".join(wrong) or "every version named is the one in uv.lock")
        sys.exit(bool(wrong))
