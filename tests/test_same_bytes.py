"""The README's table of digests: regenerated between its marks, and honest about a way that is not there."""

import sys
from pathlib import Path

import pytest
from running import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from same_bytes import MARKS, WAYS, digest, row, written

from proofcard import manifest


def test_only_what_stands_between_the_marks_changes() -> None:
    before = f"# x\n{MARKS[0]}old\n{MARKS[1]}rest\n"
    assert written(before, "new\n") == f"# x\n{MARKS[0]}new\n{MARKS[1]}rest\n"
    with pytest.raises(SystemExit, match="no lines"):
        written("# x\n", "new\n")


def test_a_digest_is_of_every_file_but_the_manifest(demo: Path, tmp_path: Path) -> None:
    for file in demo.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = digest(demo)
    (tmp_path / "manifest.json").write_text("another platform")
    assert digest(tmp_path) == first
    with (tmp_path / "config.json").open("a") as config:
        config.write(" ")
    assert digest(tmp_path) != first


def test_a_way_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (
        row("Nix", WAYS["Nix"], tmp_path)
        == "| Nix | `nix run .#quantize` | not run: no nix on this machine | |"
    )
    assert "not run: no podman nor docker" in row("container", WAYS["container"], tmp_path)


def test_a_checkpoint_gives_its_line(demo: Path, tmp_path: Path) -> None:
    said = row("uv", ("`uv run quantize`", ("sh",), lambda folder: demo), tmp_path)
    assert said.startswith(f"| uv | `uv run quantize` | `{digest(demo)[:16]}` | `")


def test_the_readme_says_what_the_demo_gives_today(demo: Path) -> None:
    _, _, rest = (ROOT / "README.md").read_text().partition(MARKS[0])
    rows = [line.split(" | ") for line in rest.partition(MARKS[1])[0].splitlines()[2:]]
    assert [cells[0] for cells in rows] == ["| uv", "| Nix", "| container"]
    key = manifest.read(demo).key
    assert {cells[3].strip("`| ") for cells in rows} == {key[:16]}
    assert len({cells[2] for cells in rows}) == 1  # the digest itself is that of one make of CPU
