"""Files of weights as `verify` reads them: what is wrong with one is a finding, the others are read."""

import json
from pathlib import Path

from proofcard.verify.weight_files import incomplete, not_counted, read_tensors

INDEX = "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))


def test_a_sound_folder_has_no_findings(checkpoint: Path) -> None:
    tensors, findings = read_tensors(checkpoint)
    assert findings == [] and len(tensors) == len(json.loads((checkpoint / INDEX).read_text())["weight_map"])
    assert not_counted(checkpoint, tensors) == []


def test_a_broken_header_is_one_finding_and_the_other_file_is_read(checkpoint: Path) -> None:
    whole, _ = read_tensors(checkpoint)
    (checkpoint / FIRST).write_bytes(b"\xff" * 64)
    tensors, [finding] = read_tensors(checkpoint)
    assert (finding.kind, finding.file) == ("mismatched", FIRST)
    assert finding.message.startswith("its header cannot be read: ")
    assert tensors and tensors.keys() < whole.keys()


def test_missing_files_are_one_finding(checkpoint: Path) -> None:
    (checkpoint / SECOND).unlink()
    tensors, findings = read_tensors(checkpoint)
    assert tensors == {} and incomplete(findings)
    assert [(each.kind, each.file) for each in findings] == [("missing", INDEX)]


def test_a_tensor_in_two_files_is_named(checkpoint: Path) -> None:
    (checkpoint / SECOND).write_bytes((checkpoint / FIRST).read_bytes())
    (checkpoint / INDEX).unlink()
    _, findings = read_tensors(checkpoint)
    assert findings and {each.kind for each in findings} == {"extra"}
    assert f"it is in {FIRST} and again in {SECOND}" in findings[0].message


def test_files_outside_the_index_are_noted(checkpoint: Path) -> None:
    (checkpoint / "more.safetensors").write_bytes((checkpoint / FIRST).read_bytes())
    tensors, findings = read_tensors(checkpoint)
    assert findings == []
    assert not_counted(checkpoint, tensors)[0] == "more.safetensors is in no index and was not checked"
