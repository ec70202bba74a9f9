"""What is refused of a manifest before any work, each in one sentence and with exit status 2."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import ROOT
from sealing import OTHER_CODE, changed, put

from proofcard import manifest
from proofcard.config import ReproduceConfig, compose
from proofcard.errors import Stop, Usage
from proofcard.reproduce import recorded
from proofcard.reproduce.configuring import configured
from proofcard.reproduce.recorded import Recorded


def asked(tmp_path: Path, *words: str) -> ReproduceConfig:
    return compose(ReproduceConfig, "reproduce", [f"work_dir={tmp_path}/runs", "tracking=off", *words])


@pytest.fixture
def folder(small_demo: Path) -> Path:
    return next((small_demo / "runs" / "checkpoints").glob("demo-*"))


def checked(folder: Path, tmp_path: Path, *changes: Any, words: tuple[str, ...] = ()) -> Any:
    """The configuration of a changed manifest, its keys checked."""
    config = asked(tmp_path, f"manifest={changed(folder, tmp_path / 'm.json', *changes)}", *words)
    record = recorded.read(config)
    made = configured(record, config)
    recorded.check_keys(record, made)
    return made


def test_one_record_is_needed_and_only_one(tmp_path: Path) -> None:
    for words in ((), (f"checkpoint={tmp_path}", "manifest=x")):
        with pytest.raises(Usage, match="one of checkpoint=DIR, manifest=FILE and run=MLFLOW_RUN_ID"):
            asked(tmp_path, *words)
    with pytest.raises(Usage, match=r"run=… is looked up in MLflow"):
        asked(tmp_path, "run=abc")


def test_the_recorded_configuration_is_composed_again(folder: Path, tmp_path: Path) -> None:
    made = checked(folder, tmp_path)
    assert made.identity() == manifest.read(folder).config
    assert made.model.path == ROOT / "demo" / "model"
    assert next(iter(made.calibration.datasets)) == "open_code_reasoning"  # not the first by name
    assert made.hardware.device == "cpu"


def test_a_broken_seal_is_refused(folder: Path, tmp_path: Path) -> None:
    body = json.loads((folder / manifest.NAME).read_text())
    (tmp_path / "m.json").write_text(json.dumps(body | {"seeds": {}}))
    with pytest.raises(Stop, match="was altered: the seal"):
        recorded.read(asked(tmp_path, f"manifest={tmp_path}/m.json"))
    with pytest.raises(Usage, match="does not exist"):
        recorded.read(asked(tmp_path, f"manifest={tmp_path}/none.json"))
    with pytest.raises(Usage, match="is not a folder"):
        recorded.read(asked(tmp_path, f"checkpoint={tmp_path}/none"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("config", "calibration", "sampling", "seed", value=43), "seeds .* are not those of its config"),
        (put("config", "calibration", "sequence_length", value=64), r"inputs\.samples\.key does not follow"),
        (put("config", "calibration", "batch_size", value=8), "key does not follow from its config"),
        (put("config", "coverage", "name", value="natural"), "key does not follow from its config"),
        (put("toolchain", "packages", "torch", value="9.9"), "key does not follow from its config"),
        (put("seeds", "torch", value=1), "seeds .* are not those of its config"),
        (put("key", value="0" * 64), "key does not follow from its config"),
    ],
)
def test_an_edited_field_under_a_new_seal_is_found(
    folder: Path, tmp_path: Path, change: Any, words: str
) -> None:
    with pytest.raises(Usage, match=words):
        checked(folder, tmp_path, change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("stage", value="samples"), "manifest of stage 'samples'"),
        (
            put("outputs", "files", "../x", value={"size": 1, "sha256": "0" * 64}),
            "is not a relative file name",
        ),
        (put("seeds", "torch", value="1"), r"seeds\.torch: Input should be"),
        (
            put("config", "engine", "name", value="magic"),
            r"this version cannot run the manifest's config: engine",
        ),
        (put("config", "model", value="x"), "has no model"),
        (put("inputs", value={}), "does not name its inputs as specified: source"),
        (put("inputs", "samples", value=[]), "does not name its inputs as specified: samples"),
        (put("inputs", "source", "files", value={"config.json": 1}), "does not name its inputs as specified"),
        (put("inputs", "samples", "inputs", "datasets", value={"a": 1}), "does not name its inputs as"),
        (put("config", "calibration", "order", value=[1]), "in which order its datasets were drawn"),
        (put("config", "calibration", "datasets", value={}), "in which order its datasets were drawn"),
        (put("config", "calibration", "datasets", value=1), "names no datasets"),
        (put("config", "further", value=1), "manifest's config: further"),
        (put("config", "toolchain", "series", value="as_published"), "as_published"),
    ],
)
def test_what_cannot_be_run_is_named(folder: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(Stop, match=words):
        checked(folder, tmp_path, *OTHER_CODE, change)


def test_settings_that_are_gone_are_taken_where_they_said_what_is_still_done(
    folder: Path, tmp_path: Path
) -> None:
    earlier = [
        put("config", "quantization", "algorithm", value="max"),
        put("config", "toolchain", "package", value="nvidia-modelopt"),
        lambda body: body["config"].pop("ulp_bound"),
        lambda body: body["config"]["calibration"].pop("order"),
    ]
    made = checked(folder, tmp_path, *OTHER_CODE, *earlier)
    assert next(iter(made.calibration.datasets)) == "open_code_reasoning"
    with pytest.raises(Usage, match="algorithm"):
        checked(folder, tmp_path, *OTHER_CODE, put("config", "quantization", "algorithm", value="mse"))


def test_code_that_a_manifest_pins_runs_only_where_a_person_allows_it(folder: Path, tmp_path: Path) -> None:
    pins = put("config", "model", "remote_code", value={"modeling.py": "e" * 64})
    source = f"source={ROOT}/demo/model"
    with pytest.raises(Usage, match=r"needs to run modeling.py of the model .*remote_code=\[e"):
        checked(folder, tmp_path, *OTHER_CODE, pins, words=(source,))
    allowed = checked(folder, tmp_path, *OTHER_CODE, pins, words=(source, f"remote_code=[{'e' * 64}]"))
    assert allowed.model.remote_code == {"modeling.py": "e" * 64}


def test_a_source_that_nothing_names_has_to_be_given(folder: Path, tmp_path: Path) -> None:
    name = put("config", "recipe", "name", value="somebody-else-s")
    with pytest.raises(Usage, match=r"does not say where its model 'minimax-m2-demo' is from: .*source=DIR"):
        checked(folder, tmp_path, *OTHER_CODE, name)
    source = f"source={ROOT}/demo/model"
    pins = [f'"{d}"' for d in manifest.read(folder).config["model"]["remote_code"].values()]
    code = f"remote_code=[{','.join(pins)}]"
    with pytest.raises(Usage, match=r"where its dataset '\w+' is from: .*samples=DIR"):
        checked(folder, tmp_path, *OTHER_CODE, name, words=(source, code))


@pytest.mark.parametrize("repository", ["/etc", "../secret", "a/b/c", "~/x", "file://x/y", ".ssh/keys", "x"])
def test_a_manifest_names_no_folder_of_this_machine(
    folder: Path, tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hub = [put("config", "model", key, value=value) for key, value in
           {"repository": repository, "revision": "0" * 40}.items()]  # fmt: skip
    with pytest.raises(Usage, match="does not say where its model"):
        checked(folder, tmp_path, *OTHER_CODE, *hub)


def test_a_repository_of_the_hub_is_not_a_folder_that_happens_to_be_called_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = [put("config", "model", key, value=value) for key, value in
           {"repository": "owner/name", "revision": "0" * 40}.items()]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert checked(folder, tmp_path, *OTHER_CODE, *hub).model.path is None  # fetched at the commit
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(Usage, match="does not say where its model"):
        checked(folder, tmp_path, *OTHER_CODE, *hub)


def test_the_recorded_samples_are_taken_by_key_and_others_refused(
    folder: Path, small_demo: Path, tmp_path: Path
) -> None:
    [samples] = (small_demo / "runs" / "samples").glob("demo-*")
    config = compose(ReproduceConfig, "reproduce", [
        f"checkpoint={folder}", f"work_dir={small_demo}/runs", "tracking=off",
    ])  # fmt: skip
    record = Recorded(recorded.values(manifest.read(folder)), folder)
    assert configured(record, config).calibration.frozen == samples
    assert configured(record, asked(tmp_path, f"checkpoint={folder}")).calibration.frozen is None
    copy = shutil.copytree(samples, tmp_path / "copy")
    given = asked(tmp_path, f"checkpoint={folder}", f"samples={copy}")
    assert configured(record, given).calibration.frozen == copy
    changed(copy, copy / manifest.NAME, put("outputs", "files", "samples.jsonl", "size", value=1))
    with pytest.raises(Usage, match="is not the recorded sample set"):
        configured(record, given)


def test_a_copy_of_a_dataset_that_is_not_recorded_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match=r"datasets\.texts is not in the manifest, which has "):
        configured(
            Recorded(recorded.values(manifest.read(folder))),
            asked(tmp_path, f"checkpoint={folder}", "datasets.texts=x"),
        )


def test_a_run_s_id_is_text_whatever_its_digits() -> None:
    from proofcard.reproduce.command import _as_text

    for name in ("00000000000000000000000000000001", "1e10", "928f76a600644eb8b5c41af3f03e7add"):
        words = [_as_text(f"run={name}"), "tracking.uri=sqlite:///x.db"]
        assert compose(ReproduceConfig, "reproduce", words).run == name


def test_a_report_belongs_outside_the_rebuilt_checkpoint(folder: Path, tmp_path: Path) -> None:
    from proofcard.reproduce.command import _placed, _report_path

    config = asked(
        tmp_path, f"checkpoint={folder}", f"report={tmp_path}/out/r.json", f"output_dir={tmp_path}/out"
    )
    record = recorded.read(config)
    placed = _placed(configured(record, config), record, config)
    with pytest.raises(Usage, match="outside the rebuilt checkpoint"):
        _report_path(placed, config)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(Usage, match="choose a new or empty folder"):
        _placed(placed, record, config)


def test_a_recipe_s_name_is_no_path(folder: Path, tmp_path: Path) -> None:
    from proofcard.reproduce.command import _placed

    config = asked(tmp_path, f"checkpoint={folder}")
    record = recorded.read(config)
    made = configured(record, config)
    for name in ("../x", "a/b", "", "x" * 80, ".hidden"):
        named = made.model_copy(update={"recipe": made.recipe.model_copy(update={"name": name})})
        with pytest.raises(Usage, match="cannot be a file's name"):
            _placed(named, record, config)
