"""The strict applier, alone and beside git's."""

import shutil
import subprocess

import pytest

from proofcard.bundle import bundled
from proofcard.toolchain import diff, installed
from proofcard.toolchain.series import load

HEAD = "--- a/x\n+++ b/x\n"
TEXT = "one\ntwo\nthree\n"


def applied(hunks: str, text: str = TEXT) -> str:
    return diff.apply(diff.parse(HEAD + hunks)["x"], text)


def test_inserts_deletes_and_replaces():
    assert applied("@@ -0,0 +1 @@\n+zero\n") == "zero\n" + TEXT
    assert applied("@@ -3,0 +4,2 @@\n+four\n+five\n") == TEXT + "four\nfive\n"
    assert applied("@@ -2 +1,0 @@\n-two\n") == "one\nthree\n"
    assert applied("@@ -1 +1 @@\n-one\n+ONE\n@@ -2,2 +2,2 @@\n two\n-three\n+THREE\n") == "ONE\ntwo\nTHREE\n"


@pytest.mark.parametrize(
    ("hunks", "reason"),
    [
        ("@@ -1 +1 @@\n-two\n+TWO\n", "line 1 differs from what it expects"),  # one line off is off
        ("@@ -3,2 +3 @@\n three\n-four\n", "line 4 differs from what it expects"),
        ("@@ -9,0 +10 @@\n+ten\n", "differs from what it expects"),
        ("@@ -1 +1 @@\n-one \n+ONE\n", "line 1 differs from what it expects"),  # white space counts
        ("@@ -2 +2 @@\n-two\n+TWO\n@@ -1 +1 @@\n-one\n+ONE\n", "overlaps"),
    ],
)
def test_nothing_is_applied_nearly(hunks, reason):
    with pytest.raises(diff.DiffError, match=reason):
        applied(hunks)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "changes nothing"),
        (HEAD, "changes nothing"),
        (HEAD + "@@ -1,2 +1 @@\n-one\n+ONE\n", "has 1 old and 1 new lines"),
        (HEAD + "@@ -1 +1 @@\n-one\n+ONE\n+more\n", "outside all hunks"),
        ("--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n", "not the header of a changed file"),
        ("--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n", "not the same file of the package"),
        ("--- a/x\n+++ b/y\n@@ -0,0 +1 @@\n+x\n", "not the same file of the package"),
        (2 * (HEAD + "@@ -0,0 +1 @@\n+x\n"), "listed twice"),
    ],
)
def test_only_plain_changes_are_taken(text, reason):
    with pytest.raises(diff.DiffError, match=reason):
        diff.parse(text)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_makes_the_same_files_of_our_patches(tmp_path):
    found = installed.find("nvidia-modelopt")
    declared, folder = load(found.package, found.version)
    chain = declared.chain("fixed")
    for path in {change.path for patch in chain for change in patch.files}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.site / path, tmp_path / path)
    for patch in chain:
        path = bundled("patches") / folder.name / patch.file
        subprocess.run(["git", "apply", "--unidiff-zero", path], cwd=tmp_path, check=True)
        for change in patch.files:
            assert installed.sha256_file(tmp_path / change.path) == change.after
