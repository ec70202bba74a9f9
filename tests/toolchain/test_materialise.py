"""A toolchain folder is whole or it is not there; the installed package is never touched."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from proofcard.digest import sha256_file
from proofcard.errors import Stop
from proofcard.toolchain import ToolchainError, folder, installed, materialise
from proofcard.toolchain.__main__ import main
from proofcard.toolchain.series import apply_all, load, patch_texts, sha256_text

PATCHED = "modelopt/torch/utils/dataset_utils.py"
SERIES = "nvidia-modelopt-0.43.0/series.yaml"


def standing(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in root.rglob("*") if p.is_file()}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("series", ["as_published", "fixed"])
def test_every_patch_is_checked_before_and_after(series):
    found = installed.find("nvidia-modelopt")
    declared, where = load(found.package, found.version)
    chain = declared.chain(series)
    texts = {change.path: found.text(change.path) for patch in chain for change in patch.files}
    for source in patch_texts(chain, where):
        for change in source[0].files:
            assert sha256_text(texts[change.path]) == change.before
        texts = apply_all([source], texts)
        for change in source[0].files:
            assert sha256_text(texts[change.path]) == change.after
            compile(texts[change.path], change.path, "exec")


@pytest.mark.parametrize("series", ["as_published", "fixed"])
def test_only_the_named_files_differ(root, series):
    tools = materialise(series, root)
    found = installed.find("nvidia-modelopt")
    copied = {name: sha for name, sha in standing(tools.path).items() if "__pycache__" not in name}
    del copied["toolchain.json"]
    assert set(copied) == {*found.files, *found.info}
    differing = {name for name in copied if copied[name] != (found.files | found.info)[name]}
    assert differing == {file.path for file in tools.files}
    assert len(differing) == {"as_published": 2, "fixed": 6}[series]
    assert all((f.before, f.after) == (found.files[f.path], copied[f.path]) for f in tools.files)


def test_the_name_follows_from_the_content_alone(site, tmp_path, root):
    here, there = materialise("fixed", root), materialise("fixed", tmp_path / "other", site=site)
    assert here == there
    assert here.path.name == there.path.name == f"nvidia-modelopt-0.43.0-fixed-{here.digest[:16]}"
    described = json.dumps(here.describe())
    assert json.loads(described) == there.describe()
    assert "/" + str(root).split("/")[1] + "/" not in described
    assert len({materialise(s, root).digest for s in ("none", "as_published", "fixed")}) == 3


def test_none_is_the_installed_package_and_writes_nothing(tmp_path):
    tools = materialise("none", tmp_path / "root")
    assert tools.path == installed.find("nvidia-modelopt").site
    assert tools.patches == tools.files == ()
    assert not (tmp_path / "root").exists()


def test_the_installed_package_is_never_written(site, tmp_path):
    def state() -> dict[str, tuple[str, int, int]]:
        files = ((name, sha, (site / name).stat()) for name, sha in standing(site).items())
        return {name: (sha, stat.st_mtime_ns, stat.st_ino) for name, sha, stat in files}

    before = state()
    tools = materialise("fixed", tmp_path / "root", site=site)
    assert state() == before
    inodes = {inode for *_, inode in before.values()}
    assert inodes.isdisjoint(p.stat().st_ino for p in tools.path.rglob("*"))  # copies, no links


def test_standing_folder_needs_no_right_to_write(root, monkeypatch):
    def refused(*_):
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr(folder, "alone", refused)
    assert materialise("fixed", root).path.is_dir()


@pytest.mark.parametrize("name", [PATCHED, "modelopt/torch/quantization/calib/max.py"])
@pytest.mark.parametrize("series", ["none", "as_published"])
def test_drifted_upstream_stops(site, tmp_path, name, series):
    (site / name).write_text((site / name).read_text() + "\n")
    with pytest.raises(Stop, match=rf"installed {name} differs .*expected sha256 .*, found .*reinstall it"):
        materialise(series, tmp_path / "root", site=site)
    assert not (tmp_path / "root").exists()


def test_missing_upstream_file_and_changed_record_stop(site, tmp_path):
    record = next(site.glob("*.dist-info")) / "RECORD"
    lines = record.read_text().splitlines()
    record.write_text("\n".join(line for line in lines if not line.startswith("modelopt_recipes/")))
    with pytest.raises(ToolchainError, match="has other files than the released wheel"):
        materialise("fixed", tmp_path / "root", site=site)
    (site / PATCHED).unlink()
    with pytest.raises(ToolchainError, match=f"installed {PATCHED} differs from .*found missing"):
        materialise("fixed", tmp_path / "root", site=site)


def test_another_version_and_no_package_stop(site, tmp_path):
    edit(next(site.glob("*.dist-info")) / "METADATA", "Version: 0.43.0", "Version: 0.44.0")
    with pytest.raises(ToolchainError, match=r"0\.44\.0 is installed, but patches exist for 0\.43\.0"):
        materialise("fixed", tmp_path / "root", site=site)
    with pytest.raises(ToolchainError, match="nvidia-modelopt is not installed"):
        materialise("fixed", tmp_path / "root", site=tmp_path / "nowhere")


def test_wrong_declarations_stop(patches, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(
        ToolchainError, match="no patch series 'fixd'; choose one of: as_published, fixed, none"
    ):
        materialise("fixd", root, patches=patches)
    patch = patches / "nvidia-modelopt-0.43.0/0001-seeded-shuffle.patch"
    edit(patch, "@@ -302,0 +303 @@", "@@ -303,0 +304 @@")
    with pytest.raises(ToolchainError, match=r"0001-seeded-shuffle.patch does not apply: .*py after it has"):
        materialise("as_published", root, patches=patches)
    edit(patch, "@@ -303,0 +304 @@\n", "@@ -303,1 +304 @@\n-no such line\n")
    with pytest.raises(ToolchainError, match="does not apply: line 303 differs from what it expects"):
        materialise("as_published", root, patches=patches)
    edit(patch, "utils/dataset_utils.py", "utils/other.py")
    edit(patch, "b/modelopt/torch/utils/dataset_utils.py", "b/modelopt/torch/utils/other.py")
    with pytest.raises(ToolchainError, match=r"it changes modelopt/torch/utils/other.py, which is not what"):
        materialise("as_published", root, patches=patches)
    patch.unlink()
    with pytest.raises(ToolchainError, match=r"lists .*0001-seeded-shuffle.patch, which does not exist"):
        materialise("as_published", root, patches=patches)
    edit(patches / SERIES, "title:", "titel:")
    with pytest.raises(ToolchainError, match=r"(?s)series.yaml of .* cannot be read.*titel"):
        materialise("as_published", root, patches=patches)
    assert not root.exists()


def test_broken_folders_stop_and_say_what_to_do(tmp_path):
    tools = materialise("as_published", tmp_path)
    marker, victim = tools.path / "toolchain.json", tools.path / PATCHED

    def stops(reason: str) -> None:
        with pytest.raises(ToolchainError, match=f"{tools.path} is broken: {reason}.*; delete that folder"):
            materialise("as_published", tmp_path)

    whole, sealed = victim.read_bytes(), marker.read_text()
    victim.write_bytes(whole.replace(b"seed=42", b"seed=43"))
    stops(f"{PATCHED} was changed")
    victim.unlink()
    stops(f"{PATCHED} is missing")
    victim.symlink_to("__init__.py")
    stops(f"{PATCHED} was changed")
    victim.unlink()
    victim.write_bytes(whole)
    (tools.path / "modelopt/more.py").touch()
    stops("modelopt/more.py was added")
    (tools.path / "modelopt/more.py").unlink()
    marker.write_text(sealed.replace("as_published", "fixed"))
    stops("toolchain.json does not describe")
    marker.unlink()
    stops("it has no toolchain.json")
    marker.write_text(sealed)
    assert materialise("as_published", tmp_path) == tools


def test_killed_while_materialising_then_run_again(tmp_path, start):
    root, flag = tmp_path / "root", tmp_path / "copied"
    program = (
        "import sys, time; from pathlib import Path; from proofcard.toolchain import folder\n"
        "folder.force_to_disk = lambda path: (Path(sys.argv[2]).touch(), time.sleep(60))\n"
        "folder.materialise('fixed', Path(sys.argv[1]))"
    )
    process = start("-c", program, root, flag)
    deadline = time.monotonic() + 60
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.suffix for path in root.glob(".nvidia*")] == [".partial"]
    tools = materialise("fixed", root)
    assert sorted(path.name for path in root.iterdir()) == [".lock", tools.path.name]


def test_two_processes_at_once(tmp_path, start):
    program = (
        "import sys; from pathlib import Path; from proofcard.toolchain import materialise\n"
        "print(materialise('fixed', Path(sys.argv[1])).digest)"
    )
    processes = [start("-c", program, tmp_path / "root") for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert len(list((tmp_path / "root").glob("*nvidia*"))) == 1


def test_unwritable_root_stops(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ToolchainError, match="file/root: a part of this path is a file, not a folder"):
        materialise("fixed", tmp_path / "file" / "root")


def test_importing_the_rooms_pulls_in_neither_torch_nor_modelopt(start):
    program = "import sys, proofcard.toolchain.__main__; print({'torch', 'modelopt'} & set(sys.modules))"
    process = start("-c", program)
    assert process.communicate()[0].strip() == "set()"


def test_the_table_and_its_exit_status(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert said.count("present") == 2
    assert "modified" not in said
    assert "FP8 blocks dequantized by torch" in said
    assert main(["no_such_series"]) == 1


def test_the_table_shows_what_is_absent_broken_or_drifted(tmp_path, site, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (materialise("as_published", tmp_path / "root").path / "toolchain.json").unlink()
    assert main(["--root", str(tmp_path / "root")]) == 1
    said = capsys.readouterr()
    assert "broken" in said.out
    assert "absent" in said.out
    assert "delete that folder" in said.err
    (site / PATCHED).write_text("")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    assert main(["--root", str(tmp_path / "root")]) == 1
    assert f"modified: {PATCHED}" in capsys.readouterr().out


def test_a_series_made_beforehand_is_taken_and_nothing_is_written(root, tmp_path, monkeypatch):
    ready = tmp_path / "ready" / materialise("fixed", root).path.name
    shutil.copytree(root / ready.name, ready)
    monkeypatch.setenv("PROOFCARD_TOOLCHAINS", str(ready.parent))
    assert materialise("fixed", tmp_path / "none").path == ready
    assert not (tmp_path / "none").exists()
    edit(ready / PATCHED, "import", "import  ")
    with pytest.raises(ToolchainError, match="was changed"):
        materialise("fixed", tmp_path / "none")


def test_a_series_that_was_not_made_beforehand_is_made_below_the_root(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PROOFCARD_TOOLCHAINS", str(tmp_path / "empty"))
    assert materialise("fixed", root).path.parent == root.resolve()
