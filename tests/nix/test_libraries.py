"""nix/libraries.toml against the wheels that are installed here."""

import csv
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from nix.elf import needed, opened
from running import ROOT

TABLE = tomllib.loads((ROOT / "nix/libraries.toml").read_text())
EVERYWHERE = {  # the C and C++ libraries of every wheel for Linux
    "ld-linux-x86-64.so.2", "libatomic.so.1", "libc.so.6", "libcrypt.so.1", "libdl.so.2", "libgcc_s.so.1",
    "libm.so.6",
    "libmvec.so.1", "libnsl.so.1", "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libstdc++.so.6",
    "libutil.so.1", "libz.so.1",
}  # fmt: skip
ENVIRONMENTS = {"quantize": Path(sys.prefix)} | {
    extra: ROOT / f".venv-{extra}" for extra in ("serve", "vllm", "bench")
}


@pytest.mark.parametrize("extra", ENVIRONMENTS)
def test_every_library_that_a_wheel_asks_for_is_somewhere(extra: str) -> None:
    wheels = objects(site_of(extra))
    holders = holders_of(wheels)
    lost = [
        f"{wheel}: {name}"
        for wheel, files in wheels.items()
        for name in sorted({name for names in files.values() for name in names} - EVERYWHERE)
        if not known(wheel, name, holders.get(name, set()))
    ]
    assert lost == []
    assert wheels.keys() & for_every_platform(site_of(extra)) <= TABLE["wheels"].keys()
    assert "torch" in wheels or extra == "bench"


@pytest.mark.parametrize("extra", ENVIRONMENTS)
def test_every_library_that_a_wheel_opens_from_another_is_found_there(extra: str) -> None:
    wheels = objects(site_of(extra))
    holders = holders_of(wheels)
    lost = {
        f"{wheel}: {name}"
        for wheel, files in wheels.items()
        for path, linked in files.items()
        for name in opened(path) - set(linked) - EVERYWHERE
        if name in holders and not known(wheel, name, holders[name]) and not brings(files, name)
    }
    assert lost == set()


@pytest.mark.parametrize("extra", ENVIRONMENTS)
def test_no_two_wheels_bring_different_files_of_one_name(extra: str) -> None:
    brought: dict[str, set[str]] = {}
    for record in site_of(extra).glob("*.dist-info/RECORD"):
        for name, digest, _ in csv.reader(record.read_text().splitlines()):
            if "__pycache__" not in name:
                brought.setdefault(name, set()).add(digest)
    assert {name for name, digests in brought.items() if len(digests) > 1} <= set(TABLE["collisions"])


def known(wheel: str, name: str, holders: set[str]) -> bool:
    if wheel in holders or any(fnmatch(name, pattern) for pattern in TABLE["driver"]):
        return True
    said = TABLE["wheels"].get(wheel, {})
    if holders & set(said.get("siblings", [])) or (said.get("python") and name.startswith("libpython3")):
        return True
    return any(fnmatch(name, pattern) for pattern in said.get("optional", []))


def holders_of(wheels: dict[str, dict[Path, list[str]]]) -> dict[str, set[str]]:
    """Of each library's file name, the wheels that hold it."""
    holders: dict[str, set[str]] = {}
    for wheel, files in wheels.items():
        for path in files:
            holders.setdefault(path.name, set()).add(wheel)
    return holders


def brings(files: dict[Path, list[str]], name: str) -> bool:
    """Whether one of a wheel's own files is this library, under its full name."""
    return any(path.name.startswith(name) for path in files)


def for_every_platform(site: Path) -> set[str]:
    """Wheels that claim to hold nothing of one platform: uv2nix gives them no library at all."""
    return {name_of(path) for path in site.glob("*.dist-info/WHEEL") if "-none-any\n" in path.read_text()}


def name_of(path: Path) -> str:
    """Of a file of a wheel's metadata, the wheel's name as uv.lock writes it."""
    return path.parent.name.removesuffix(".dist-info").rsplit("-", 1)[0].replace("_", "-").lower()


def site_of(extra: str) -> Path:
    found = list(ENVIRONMENTS[extra].glob("lib/python3*/site-packages"))
    if not found:
        pytest.skip(f"NOT CHECKED HERE: extra {extra} is not installed: make setup-{extra}")
    return found[0]


@cache
def objects(site: Path) -> dict[str, dict[Path, list[str]]]:
    """Of each wheel, its ELF files and the libraries they are linked with."""
    found: dict[str, dict[Path, list[str]]] = {}
    for record in site.glob("*.dist-info/RECORD"):
        for name, *_ in csv.reader(record.read_text().splitlines()):
            path = site / name
            if (".so" in path.name or not path.suffix) and path.is_file():
                names = needed(path)
                if names is not None:
                    found.setdefault(name_of(record), {})[path] = names
    return found
