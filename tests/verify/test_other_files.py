"""Code, generation settings and weights in other formats beside the checkpoint's own."""

import json
from pathlib import Path

import pytest
from verify.making import write_json

from proofcard.verify.other_files import check
from proofcard.verify.report import Level

AUTO = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "ours", tmp_path / "theirs"
    for folder in folders:
        folder.mkdir()
        (folder / "modeling.py").write_text("class Model: pass\n")
        write_json(folder / "generation_config.json", {"temperature": 1.0})
    return folders


def judged(ours: Path, theirs: Path | None, config: dict[str, object] = AUTO) -> Level:
    level = Level("structure")
    check(ours, theirs, config, sealed=False, level=level)
    return level


def test_the_source_s_own_files_hold(pair: tuple[Path, Path]) -> None:
    assert judged(*pair).result == "holds"
    assert "this needs source=DIR" in judged(pair[0], None).notes[0]


@pytest.mark.parametrize("name", ["model.gguf", "pytorch_model.bin", "x.so", "adapter_config.json"])
def test_weights_and_code_that_an_engine_may_load_instead(pair: tuple[Path, Path], name: str) -> None:
    (pair[0] / name).write_text("{}")
    [finding] = judged(*pair).findings
    assert (finding.kind, finding.file) == ("extra", name)


def test_code_is_the_source_s_and_all_of_it(pair: tuple[Path, Path]) -> None:
    (pair[0] / "modeling.py").write_text("class Model: other = True\n")
    (pair[0] / "more.py").write_text("")
    found = {(each.kind, each.file) for each in judged(*pair).findings}
    assert found == {("mismatched", "modeling.py"), ("extra", "more.py")}
    (pair[0] / "modeling.py").unlink()
    assert ("missing", "modeling.py") in {(each.kind, each.file) for each in judged(*pair).findings}


def test_code_of_another_repository_is_named(pair: tuple[Path, Path]) -> None:
    level = judged(*pair, config={"auto_map": {"AutoModel": "other/repository--modeling.Model"}})
    assert "code that is not in the checkpoint" in level.findings[0].message


def test_generation_settings_are_the_source_s_but_for_what_an_export_adds(pair: tuple[Path, Path]) -> None:
    said = json.loads((pair[0] / "generation_config.json").read_text())
    write_json(pair[0] / "generation_config.json", said | {"do_sample": True, "transformers_version": "5"})
    assert judged(*pair).result == "holds"
    write_json(pair[0] / "generation_config.json", {"temperature": 0.7})
    [finding] = judged(*pair).findings
    assert (finding.file, finding.expected, finding.found) == ("generation_config.json", "1.0", "0.7")


def test_another_quantizer_s_configuration_is_not_judged(pair: tuple[Path, Path]) -> None:
    write_json(pair[0] / "quantize_config.json", {})
    assert judged(*pair).result == "not checked"
