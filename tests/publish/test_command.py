"""`publish` with huggingface_hub's own client against the hub on loopback."""

from pathlib import Path

import pytest
from hub import Hub
from publish.making import NAME, OFF, files, publish

from proofcard import manifest
from proofcard.card.command import run as card
from proofcard.documents import read
from proofcard.documents.published import Published
from proofcard.errors import Stop, Usage
from proofcard.publish.command import run

SHARD = "model.safetensors"


def test_the_whole_folder_goes_out_in_one_commit_and_is_read_back(place: Path, hub: Hub) -> None:
    before = set(place.rglob("*"))
    assert publish() == 0
    repository, folder = hub.repositories["model", NAME], place / "checkpoint"
    here = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    there = files(hub)
    assert {name: body for name, body in there.items() if name != ".gitattributes"} == here
    assert repository.private and len(repository.commits) == 2
    key = manifest.read(folder).key
    assert repository.tags == {key: repository.main}
    found = read(Published, place / "checkpoint.published.json")
    assert (found.commit, found.tag, found.private) == (repository.main, key, True)
    assert found.levels == dict.fromkeys(("integrity", "structure", "weights"), "holds")
    assert found.files[SHARD].stored == "lfs" and found.files["config.json"].stored == "git"
    assert {name: each.sealed for name, each in found.files.items()}["README.md"] is False
    assert set(place.rglob("*")) - before == {place / "checkpoint.published.json"}


def test_it_may_be_repeated_and_changes_nothing(place: Path, hub: Hub) -> None:
    publish()
    sent, commit = list(hub.uploads.sent), hub.repositories["model", NAME].main
    assert publish() == 0
    assert (hub.uploads.sent, hub.repositories["model", NAME].main) == (sent, commit)


def test_a_new_card_of_the_same_checkpoint_follows_and_takes_the_tag_along(place: Path, hub: Hub) -> None:
    (place / "runs/audits").mkdir(parents=True)
    publish()
    former = hub.repositories["model", NAME].main
    card(["checkpoint=checkpoint", "license=mit", *OFF])
    assert publish() == 0
    repository = hub.repositories["model", NAME]
    assert repository.main != former
    assert list(repository.tags.values()) == [repository.main]
    assert b"license: mit" in files(hub)["README.md"]


def test_what_a_former_card_left_there_is_deleted(place: Path, hub: Hub) -> None:
    publish()
    hub.add(NAME, files(hub) | {".proofcard/tasks-old.json": b"{}"})
    publish()
    assert ".proofcard/tasks-old.json" not in files(hub)


def test_large_files_go_out_in_parts(place: Path, hub: Hub) -> None:
    hub.uploads.part = 10_000
    publish()
    assert files(hub)[SHARD] == (place / "checkpoint" / SHARD).read_bytes()
    assert len(hub.uploads.sent) > 2


def test_a_cut_connection_is_tried_again_by_itself(place: Path, hub: Hub) -> None:
    hub.uploads.cuts.extend([5000, 0])
    assert publish() == 0


def test_an_upload_that_broke_off_is_resumed_without_sending_again(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proofcard.hub._RETRIES", 0)
    monkeypatch.setattr("proofcard.publish.sending._LARGE", 20_000)
    hub.uploads.part = 1 << 20
    publish_broken(hub, after=1)
    sent = list(hub.uploads.sent)
    assert len(sent) == 1
    assert ".proofcard" not in str(files(hub).keys())  # nobody sees a part
    hub.uploads.cuts.clear()
    assert publish() == 0
    assert len(set(hub.uploads.sent)) == len(hub.uploads.sent)  # no object twice
    assert not list((place / "checkpoint").rglob("*.metadata"))


def publish_broken(hub: Hub, after: int) -> None:
    """A publication whose connection breaks for good after some objects."""

    class Breaking(type(hub.uploads.cuts)):  # type: ignore[misc]
        def __bool__(self) -> bool:
            return len(hub.uploads.sent) >= after

        def popleft(self) -> int:
            return 1000

    whole, hub.uploads.cuts = hub.uploads.cuts, Breaking()
    with pytest.raises(
        Stop, match=r"the connection to the hub broke .*: check the network; the same command resumes"
    ):
        publish()
    hub.uploads.cuts = whole


def test_a_commit_whose_answer_was_lost_is_found_by_the_same_command(place: Path, hub: Hub) -> None:
    hub.uploads.lost = 1
    with pytest.raises(Stop, match="the same command resumes"):
        publish()
    commits = len(hub.repositories["model", NAME].commits)
    assert publish() == 0
    assert len(hub.repositories["model", NAME].commits) == commits
    assert hub.repositories["model", NAME].tags


@pytest.mark.parametrize(
    ("kind", "status", "message", "sentence"),
    [
        (
            "create",
            401,
            "Invalid username or password.",
            r"does not accept the token for org/demo-NVFP4 \(401: Inv",
        ),
        (
            "create",
            403,
            "You don't have the rights",
            r"the token may not write to org/demo-NVFP4 \(403: You don't",
        ),
        ("create", 409, "exists", r"org/demo-NVFP4 was changed by somebody else meanwhile \(409"),
        ("put", 507, "", r"the hub has no more space for org/demo-NVFP4 \(507\): free some"),
        ("batch", 402, "pay", r"the hub has no more space for org/demo-NVFP4 \(402: pay\)"),
        ("batch", 413, "", r"the hub has no more space for org/demo-NVFP4 \(413\)"),
        (
            "batch",
            403,
            "Private repository storage limit reached",
            r"no more space .* \(403: Private repository",
        ),
        (
            "commit",
            412,
            "A commit has happened since",
            r"was changed by somebody else meanwhile \(412: A commit",
        ),
        ("commit", 409, "conflict", r"was changed by somebody else meanwhile \(409: conflict"),
        ("commit", 500, "oops", r"cannot take org/demo-NVFP4 now \(500: oops\): try again later"),
        ("tag", 403, "no tags", r"the token may not write to org/demo-NVFP4 \(403: no tags"),
        ("preupload", 404, "gone", r"the hub has no org/demo-NVFP4 for this token \(404: gone"),
    ],
)
def test_each_refusal_of_the_hub_is_one_sentence(
    place: Path, hub: Hub, kind: str, status: int, message: str, sentence: str
) -> None:
    hub.uploads.refuse(kind, status, message)
    with pytest.raises(Stop, match=sentence) as stop:
        publish()
    assert not isinstance(stop.value, Usage)
    assert "\n" not in str(stop.value) and hub.uploads.token not in str(stop.value)
    assert not (place / "checkpoint.published.json").exists()


def test_a_busy_hub_is_asked_again(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofcard.publish.sending._LARGE", 1)
    monkeypatch.setattr("proofcard.hub.FIRST_WAIT", 0.0)
    hub.uploads.refuse("batch", 503, times=2)
    assert publish() == 0


def test_without_a_token_nothing_is_asked(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(place / "none"))
    monkeypatch.setattr("huggingface_hub.utils._auth.constants.HF_TOKEN_PATH", str(place / "none"))
    with pytest.raises(Usage, match="publishing needs a token that may write: set HF_TOKEN"):
        publish()
    assert hub.requests == []


@pytest.mark.parametrize(
    "word",
    ["token=hf_abcdefghijklmnopqrst", "+hf_token=x", "repository=org/hf_abcdefghijklmnopqrst", "TOKEN=x"],
)
def test_a_token_on_the_command_line_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(Usage, match="everybody on this machine can read a token") as stop:
        publish(word)
    assert "abcdef" not in str(stop.value)


def test_no_output_and_no_file_contains_the_token(
    place: Path, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    publish()
    hub.uploads.refuse("commit", 403, f"the token {hub.uploads.token} may not")
    (place / "checkpoint/README.html").touch()
    hub.repositories.clear()
    with pytest.raises(Stop) as stop:
        publish()
    said = capfd.readouterr()
    assert hub.uploads.token not in said.out + said.err + str(stop.value)
    assert not [p for p in place.rglob("*") if p.is_file() and hub.uploads.token.encode() in p.read_bytes()]


def test_what_is_wrong_on_the_hub_afterwards_is_named_and_not_tagged(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = hub.add

    def damaged(name: str, body: dict[str, bytes], **more: str) -> str:
        if SHARD in body:
            body = body | {SHARD: body[SHARD][:-1] + b"!"}
        return add(name, body, **more)

    monkeypatch.setattr(hub, "add", damaged)
    with pytest.raises(Stop, match=r"is not what was sent: model\.safetensors has .* it was not tagged"):
        publish()
    assert hub.repositories["model", NAME].tags == {}


def test_a_download_s_cache_and_git_s_files_stay_here(place: Path, hub: Hub) -> None:
    folder = place / "checkpoint"
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/x.metadata").write_text("x")
    (folder / ".gitignore").write_text("*.safetensors")
    publish()
    assert not [name for name in files(hub) if name.startswith((".cache", ".gitignore"))]
    assert SHARD in files(hub)


def test_a_link_to_the_checkpoint_is_as_good(place: Path, hub: Hub) -> None:
    (place / "checkpoint").rename(place / "checkpoint-0123")
    (place / "checkpoint").symlink_to("checkpoint-0123")
    assert publish() == 0
    assert (place / "checkpoint.published.json").exists()


def test_mlflow_has_the_document_and_the_alias_and_no_token(place: Path, hub: Hub) -> None:
    import mlflow

    store = f"sqlite:///{place}/runs/mlflow.db"
    words = ["checkpoint=checkpoint", f"repository={NAME}", "yes=true", "work_dir=runs"]
    assert run([*words, "tracking=sqlite", f"tracking.uri={store}"]) == 0
    client = mlflow.MlflowClient(store)
    [experiment] = client.search_experiments(filter_string="name = 'proofcard'")
    [tracked] = client.search_runs([experiment.experiment_id], "tags.command = 'publish'")
    commit = hub.repositories["model", NAME].main
    assert (tracked.data.tags["repository"], tracked.data.tags["commit"]) == (NAME, commit)
    names = [each.path for each in client.list_artifacts(tracked.info.run_id, "publish")]
    assert names == ["publish/checkpoint.published.json"]
    [model] = client.search_registered_models()
    assert "published" in model.aliases
    token = hub.uploads.token.encode()
    assert not [path for path in (place / "runs").rglob("*") if path.is_file() and token in path.read_bytes()]
