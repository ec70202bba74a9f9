"""Nothing of ours goes into the hub client's cache: it would call the repository corrupted."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from proofcard import verify as verify_from_python
from proofcard.card.beside import Files, write
from proofcard.config.schema import Tracking, VerifyConfig
from proofcard.errors import Stop
from proofcard.hub_cache import name_in_cache
from proofcard.reports import beside
from proofcard.tracking_home import store_of
from proofcard.verify import report_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SNAPSHOT = Path("hub/models--org--made/snapshots") / COMMIT


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model in a cache as the client lays it out, its files links to blobs."""
    folder = tmp_path / SNAPSHOT
    folder.mkdir(parents=True)
    blobs, refs = folder.parents[1] / "blobs", folder.parents[1] / "refs"
    for each in (blobs, refs):
        each.mkdir()
    (refs / "main").write_text(COMMIT)
    (blobs / "abc").write_text("{}")
    (folder / "config.json").symlink_to("../../blobs/abc")
    return folder


def test_a_folder_of_the_cache_is_recognized() -> None:
    assert name_in_cache(Path("/c") / SNAPSHOT) == "org--made@0123456789ab"
    assert name_in_cache(Path("/c") / SNAPSHOT / "sub") == "org--made@0123456789ab--sub"
    for path in ("/c/hub/models--org--made", "/c/hub/models--org--made/snapshots", "/c/snapshots/x", "/"):
        assert name_in_cache(Path(path)) is None


def test_reports_go_to_the_working_folder(snapshot: Path, tmp_path: Path) -> None:
    for suffix in ("verification.json", "analysis", "against.b"):
        target = beside(snapshot, suffix, tmp_path / "runs")
        assert target == tmp_path / "runs" / "reports" / f"org--made@0123456789ab.{suffix}"
    elsewhere = tmp_path / "mine"
    elsewhere.symlink_to(snapshot)
    assert beside(elsewhere, "analysis", tmp_path / "runs") == tmp_path / "mine.analysis"
    config = VerifyConfig(checkpoint=snapshot, source=None, levels=None, report=None, work_dir=tmp_path / "r")
    assert report_path(config).parent == tmp_path / "r" / "reports"


def test_the_cache_is_whole_after_a_verification(snapshot: Path, tmp_path: Path) -> None:
    assert verify_from_python(snapshot).result != "verified"
    with pytest.raises(Stop, match="is in the hub's cache, which a card would damage: copy the folder"):
        write(snapshot, Files(None, {"README.md": "x"}))  # type: ignore[arg-type]
    assert not scan_cache_dir(tmp_path / "hub").warnings
    shutil.copy(snapshot / "config.json", snapshot.with_name("made.verification.json"))
    assert scan_cache_dir(tmp_path / "hub").warnings  # so this is what it would be


def test_a_checkpoint_s_own_store_is_where_it_was_made(tmp_path: Path) -> None:
    runs = Path("runs")
    usual = Tracking(uri="sqlite:///runs/mlflow.db", experiment="proofcard")
    made = tmp_path / "work" / "checkpoints" / "demo"
    made.mkdir(parents=True)
    assert store_of(made, usual, runs) == usual
    (tmp_path / "work" / "mlflow.db").touch()
    assert store_of(made, usual, runs).uri == f"sqlite:///{tmp_path}/work/mlflow.db"
    server = usual.model_copy(update={"uri": "http://127.0.0.1:5000"})
    for wish in (server, usual.model_copy(update={"uri": None})):
        assert store_of(made, wish, runs) == wish
    there = Tracking(uri=f"sqlite:///{tmp_path}/there/mlflow.db", experiment="proofcard")
    assert store_of(made, there, tmp_path / "there") == there
    assert store_of(tmp_path / "work", usual, runs) == usual
