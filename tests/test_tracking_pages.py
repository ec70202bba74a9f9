"""What a newcomer meets in MLflow: a checkpoint's run that explains itself, its model, links that work."""

import asyncio
import base64
import json
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run
from running import ROOT

from proofcard import manifest, tracking, tracking_app, tracking_page, tracking_view
from proofcard.config.schema import Tracking
from proofcard.tracking_headlines import HEADLINES, headline_of, plain
from proofcard.tracking_links import run_link, run_page, runs_page

GOLDEN = manifest.read(ROOT / "tests/golden/manifest-1/checkpoint")
DATASETS = {"samples": {"inputs": {"datasets": {"text": {"digest": "d" * 64}}}}}  # as manifests have them now
SEALED = GOLDEN.model_copy(update={"inputs": GOLDEN.inputs | DATASETS})
NAME = f"{SEALED.recipe}-{SEALED.key[:12]}"
ODD = ["recipe=local", "model.path=/data/a folder/with 'quotes'", "x=`y`", "z=$HOME"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """A store in which a checkpoint was made, verified, and then measured."""
    folder = tmp_path_factory.mktemp("store")
    made = Tracking(uri=f"sqlite:///{folder}/runs/mlflow.db", experiment="proofcard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "_environment", lambda: {"uv.lock.sha256": "f" * 64})
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setattr("sys.argv", ["proofcard", *ODD])
        subject = tracking.Subject(SEALED.key, SEALED.recipe)
        with tracking.opened(made, "quantize", folder / "runs", subject=subject, makes=True) as tracker:
            tracker.configuration(SEALED.config)
            tracker.checkpoint(SEALED, made=True)
        with opened(made, folder, "verify") as tracker:
            tracker.tags({"result": "verified", "level.integrity": "holds", "level.weights": "holds"})
            tracker.headlines({"weights_proved": 1.0})
            tracker.verified(True, "integrity, structure, weights")
        with opened(made, folder, "evaluate") as tracker:
            texts = tracker.data("held_out_texts", "e" * 64, "evaluation", documents="60")
            tracker.headlines({"kl_w4a4_kv": 0.00214, "top1_agreement": 0.9878}, texts)
    yield made


def opened(store: Tracking, folder: Path, command: str):  # type: ignore[no-untyped-def]
    """The run of a command on the checkpoint."""
    return tracking.opened(store, command, folder / "runs", subject=tracking.of_sealed(SEALED))


@pytest.fixture
def client(store: Tracking) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(store.uri)
    return mlflow.MlflowClient(store.uri, store.uri)


@pytest.fixture
def runs(client: mlflow.MlflowClient) -> dict[str, Run]:
    """The runs by name."""
    place = client.get_experiment_by_name("proofcard").experiment_id
    found = [client.get_run(run.info.run_id) for run in client.search_runs([place])]  # with their models
    return {run.info.run_name: run for run in found}


def test_names_have_command_recipe_and_short_key(runs: dict[str, Run]) -> None:
    short = f"{SEALED.recipe}-{SEALED.key[:8]}"
    assert set(runs) == {NAME, f"quantize {short}", f"verify {short}", f"evaluate {short}"}


def test_the_description_says_what_it_is_what_was_proved_and_how_to_repeat_it(runs: dict[str, Run]) -> None:
    text = runs[NAME].data.tags[tracking_page.NOTE]
    first = text.splitlines()[2]
    assert "verified" in first and "`kl_w4a4_kv` 0.00214" in first and "`top1_agreement` 98.78%" in first
    command = shlex.join(["proofcard", "quantize", *ODD])
    assert f"\n```sh\n{command}\n```\n" in text or f"\n````sh\n{command}\n````\n" in text
    assert SEALED.key in text and "| weights | holds |" in text and "| structure | not requested |" in text
    assert f"uv.lock sha256 `{'f' * 64}`" in text
    for run in runs.values():
        if run.info.run_name != NAME:
            assert f"/runs/{run.info.run_id}?workflowType=machine_learning)" in text
            assert "proofcard " in run.data.tags[tracking_page.NOTE]


def test_a_command_in_backquotes_cannot_leave_its_block() -> None:
    text = tracking_page.of_command({"command_line": "proofcard verify 'x=```\n# boo'"})
    assert text.startswith("````sh\n") and "\n````" in text


def test_a_description_always_fits_into_a_tag(runs: dict[str, Run]) -> None:
    many = [run for name, run in runs.items() if name != NAME] * 100
    assert len(tracking_page.of_checkpoint(runs[NAME], many)) < 8000


def test_parameters_are_there_once_and_headline_numbers_alone(runs: dict[str, Run]) -> None:
    parent = runs[NAME].data
    assert parent.params["recipe.name"] == SEALED.recipe
    for name, run in runs.items():
        if name != NAME:
            assert not set(run.data.params) & set(parent.params)
    assert set(parent.metrics) == {"size_gb", "weights_proved", "kl_w4a4_kv", "top1_agreement"}


def test_datasets_have_a_context_and_the_whole_digest(runs: dict[str, Run]) -> None:
    found = {}
    for entry in runs[NAME].inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in entry.tags}
        assert json.loads(entry.dataset.source)["tags"]["sha256"] == tags["sha256"]
        found[entry.dataset.name] = (tags["mlflow.data.context"], tags["sha256"])
    assert found == {"text": ("calibration", "d" * 64), "held_out_texts": ("evaluation", "e" * 64)}


def test_one_external_model_has_the_metrics_of_every_run(
    client: mlflow.MlflowClient, runs: dict[str, Run]
) -> None:
    place = runs[NAME].info.experiment_id
    [model] = client.search_logged_models([place])
    assert model.name == NAME and model.tags["key"] == SEALED.key
    assert model.tags["mlflow.model.isExternal"] == "true"
    metrics = {metric.key: metric for metric in model.metrics}
    assert set(metrics) == {"weights_proved", "kl_w4a4_kv", "top1_agreement"}
    assert metrics["kl_w4a4_kv"].dataset_name == "held_out_texts"
    for name, run in runs.items():
        linked = [*run.inputs.model_inputs, *run.outputs.model_outputs]
        assert {each.model_id for each in linked} == {model.model_id}, name


def test_aliases_follow_what_passes(store: Tracking, client: mlflow.MlflowClient, tmp_path: Path) -> None:
    def aliases() -> set[str]:
        return set(client.get_model_version(str(SEALED.recipe), "1").aliases)

    assert aliases() == {"verified"}
    with opened(store, tmp_path, "publish") as tracker:
        tracker.published("somebody/local-NVFP4@" + "c" * 40)
    assert aliases() == {"verified", "published"}
    with opened(store, tmp_path, "verify") as tracker:
        tracker.verified(False, "integrity")
    assert aliases() == {"published"}
    [version] = client.search_model_versions(f"name = '{SEALED.recipe}'")
    assert version.tags["published"].startswith("somebody/local-NVFP4@")
    assert version.tags["key"] == SEALED.key


def test_a_number_that_nobody_explains_is_refused(store: Tracking, tmp_path: Path) -> None:
    with pytest.raises(KeyError), opened(store, tmp_path, "evaluate") as tracker:
        tracker.headlines({"kl": 1.0})


def test_each_headline_is_explained_and_written() -> None:
    assert len(HEADLINES) == 8
    for headline in HEADLINES:
        name = f"{headline.name}w4a4" if headline.name.endswith("_") else headline.name
        assert headline_of(name) is headline and headline.title and headline.written(0.5)
    assert plain("w4a4+kv") == "w4a4_kv"


def test_links_go_straight_to_the_run() -> None:
    server = Tracking(uri="https://me:pw@mlflow.example/", experiment="e")
    assert run_page(server, "7", "abc").endswith(
        "mlflow.example/#/experiments/7/runs/abc?workflowType=machine_learning"
    )
    assert "pw" not in run_link(server, "7", "abc")
    local = Tracking(uri="sqlite:///a folder/mlflow.db", experiment="e")
    command, _, page = run_link(local, "7", "abc").partition(", then open ")
    words = ["mlflow", "ui", "--app-name", "proofcard", "--backend-store-uri", "sqlite:///a folder/mlflow.db"]
    assert shlex.split(command) == words
    assert page == "http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert runs_page(local, "7").endswith("/runs?workflowType=machine_learning&viewStateShareKey=headlines")


def test_the_saved_view_has_the_headline_numbers_as_columns(client: mlflow.MlflowClient) -> None:
    kept = client.get_experiment_by_name("proofcard").tags
    assert kept.items() >= tracking_view.tags().items()
    state = json.loads(kept["mlflow.sharedViewState.headlines"])["state"].removeprefix("deflate;")
    columns = json.loads(zlib.decompress(base64.b64decode(state)))["selectedColumns"]
    for column in columns[:8]:
        headline_of(column.removeprefix("metrics.`").removesuffix("`"))


def test_published_numbers_are_imported_once_and_replaced_when_they_change(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.append(str(ROOT / "mlflow"))
    import import_reference as reference

    table = store.model_copy(update={"experiment": "beside"})
    count = len(reference.references())
    assert [reference.imported(table, tmp_path), reference.imported(table, tmp_path)] == [count, 0]
    client = mlflow.MlflowClient(table.uri)
    place = client.get_experiment_by_name("beside").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([place], "tags.published = 'true'")}
    assert len(runs) == count and all(name.endswith("(published)") for name in runs)
    card = runs["card (published)"]
    curve = client.get_metric_history(card.info.run_id, "by_users/tokens_per_s")
    assert {point.step: point.value for point in curve} == {1: 90, 4: 228, 8: 354, 16: 561, 32: 590, 64: 631}
    assert card.data.tags["date"] and card.data.tags["source"] and card.data.metrics["tokens_per_s"] == 631
    assert runs["NVIDIA (published)"].data.metrics["gpqa_diamond/candidate"] == 0.857
    shutil.copytree(reference.REFERENCE, tmp_path / "reference")
    changed = tmp_path / "reference" / "sglang_4x_gb200.yaml"
    changed.write_text(changed.read_text().replace("198.7", "199.7"))
    monkeypatch.setattr(reference, "REFERENCE", tmp_path / "reference")
    assert reference.imported(table, tmp_path) == 1
    assert len(client.search_runs([place], "tags.published = 'true'")) == count


def test_every_command_prints_its_link(
    store: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(store, tmp_path, "verify"):
        pass
    out, errors = capsys.readouterr()
    assert out == ""  # standard output is for documents
    assert errors.count("MLflow: mlflow ui --app-name proofcard --backend-store-uri sqlite:///") == 1


def test_the_start_page_of_make_ui_leads_to_the_runs_and_others_are_left_alone() -> None:
    def answered(path: str, method: str = "GET") -> tuple[dict[bytes, bytes], bytes]:
        sent: list[dict[str, Any]] = []

        async def mlflow_app(scope: Any, receive: Any, send: Any) -> None:
            page = b"<head></head>" + path.encode()
            headers = [(b"content-length", str(len(page)).encode()), (b"etag", b"x")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": page[:4], "more_body": True})
            await send({"type": "http.response.body", "body": page[4:]})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "method": method, "headers": []}
        asyncio.run(tracking_app.Landing(mlflow_app, "#/experiments/1/runs")(scope, send, send))
        return dict(sent[0]["headers"]), b"".join(each["body"] for each in sent[1:])

    headers, body = answered("/")
    assert b'location.replace("#/experiments/1/runs")' in body and body.endswith(b"</head>/")
    assert headers[b"content-length"] == str(len(body)).encode() and b"etag" not in headers
    for path, method in (("/api", "GET"), ("/", "POST")):
        headers, body = answered(path, method)
        assert body == b"<head></head>" + path.encode() and headers[b"etag"] == b"x"
