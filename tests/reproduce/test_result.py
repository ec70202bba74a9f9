"""The three outcomes, the first difference and its likeliest cause, from tables alone."""

import hashlib
from typing import Any

import numpy as np
import pytest

from proofcard import nvfp4
from proofcard.documents.reproduction import Difference, Reproduction, Samples
from proofcard.quantize.tables import AMAX
from proofcard.reproduce import result

SCALE = "model.layers.0.mlp.up_proj.input_scale"
WEIGHT = "model.layers.0.mlp.up_proj.weight"
PLATFORM = {"device": "cpu", "threads": 1}
SAME = Samples(drawn=True, recorded="a" * 64, made="a" * 64)


def scale(step: int = 0) -> bytes:
    """Of an amax that many steps of BF16 above 2."""
    return nvfp4.input_scale(np.array([(0x4000 + step) << 16], np.uint32).view(np.float32)[0]).tobytes()


def sha(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def sealed(step: int = 0, weight: bytes = b"codes", table: bytes = b"", **more: Any) -> dict[str, Any]:
    values = {SCALE: scale(step), WEIGHT: weight}
    shard = b"".join(values.values())
    files = {"model.safetensors": shard, AMAX: table or str(step).encode(), "config.json": b"{}"}
    return {
        "key": "b" * 64,
        "config": {"recipe": {"name": "tiny"}},
        "platform": PLATFORM,
        "outputs": {
            "files": {name: {"size": len(body), "sha256": sha(body)} for name, body in files.items()},
            "tensors": {
                name: {
                    "file": "model.safetensors",
                    "dtype": "U8",
                    "shape": [len(value)],
                    "sha256": sha(value),
                }
                for name, value in values.items()
            },
        },
    } | more


def judged(recorded: dict[str, Any], made: dict[str, Any], *found: Difference, **more: Any) -> Reproduction:
    values = {sha(scale(step)): scale(step) for step in range(20)}
    return result.judged(
        "tiny", recorded, made, list(found), more.get("samples", SAME),
        read=lambda name, said: None,
        read_made=lambda name, said: values.get(said["sha256"]),
        bound=more.get("bound", 2),
    )  # fmt: skip


def differs(what: str, effect: Any) -> Difference:
    return Difference(what=what, recorded="old", here="new", may_change=effect)


OTHER = {"platform": PLATFORM | {"device": "cuda"}}


def test_equal_tables_are_reproduced_whatever_the_environment() -> None:
    found = judged(sealed(), sealed(**OTHER), differs("code", "any byte"))
    assert (found.outcome, found.first, found.cause) == ("reproduced", None, None)
    assert found.files.equal == found.files.recorded == 3


@pytest.mark.parametrize("step", [1, 2])
def test_on_another_platform_a_scale_may_be_as_far_as_the_bound(step: int) -> None:
    found = judged(sealed(), sealed(step, **OTHER), differs("platform.device", "calibration"))
    assert (found.outcome, found.largest_ulp) == ("reproduced within ULP", step)
    [far] = found.distances
    assert (far.tensor, far.ulp, far.recorded_amax) == (SCALE, step, pytest.approx(2.0))
    assert result.STATUS[found.outcome] == 3


def test_within_the_bound_the_platform_is_likelier_than_what_may_change_any_byte() -> None:
    """As a GPU rebuilds a CPU's checkpoint with another release of a package."""
    code, platform = differs("packages.numba", "any byte"), differs("platform.device", "calibration")
    found = judged(sealed(), sealed(1, **OTHER), code, platform)
    assert found.cause == "platform.device is new here, old recorded"


def test_beyond_the_bound_it_is_not_reproduced_and_the_platform_named() -> None:
    found = judged(sealed(), sealed(3, **OTHER), differs("platform.device", "calibration"))
    assert found.outcome == "not reproduced"
    assert found.first is not None
    assert found.first.tensor == SCALE
    assert found.cause == "platform.device is new here, old recorded"


def test_on_the_recorded_platform_calibration_has_to_be_exact() -> None:
    found = judged(sealed(), sealed(1))
    assert found.outcome == "not reproduced"
    assert "nothing in the record that may change calibration differs" in (found.cause or "")


def test_tables_alone_may_differ_on_another_platform_only() -> None:
    assert judged(sealed(), sealed(table=b"x", **OTHER)).outcome == "reproduced within ULP"
    assert judged(sealed(), sealed(table=b"x")).outcome == "not reproduced"


def test_a_weight_is_never_within_anything_and_code_is_blamed_before_the_platform() -> None:
    platform, code = differs("platform.device", "calibration"), differs("packages.torch", "any byte")
    found = judged(sealed(), sealed(1, weight=b"other", **OTHER), platform, code)
    assert found.outcome == "not reproduced"
    assert found.first is not None
    assert (found.first.tensor, found.first.kind) == (WEIGHT, "mismatched")
    assert found.cause == "packages.torch is new here, old recorded"


def test_other_samples_are_blamed_for_scales_and_their_dataset_named() -> None:
    other = Samples(drawn=True, recorded="a" * 64, made="c" * 64)
    found = judged(sealed(), sealed(5), differs("dataset texts", "samples"), samples=other)
    assert found.cause == "the samples are not the recorded ones: dataset texts is new here, old recorded"
    found = judged(sealed(), sealed(5), samples=other)
    assert "calibration.sampling.seed" in (found.cause or "")


def test_missing_and_extra_tensors_and_files_are_named() -> None:
    less, more = sealed(), sealed()
    del less["outputs"]["tensors"][WEIGHT]
    for recorded, made, kind in ((more, less, "missing"), (less, more, "extra")):
        found = judged(recorded, made)
        assert found.first is not None
        assert (found.first.tensor, found.first.kind) == (WEIGHT, kind)
    header = sealed()
    header["outputs"]["files"]["model.safetensors"]["sha256"] = "0" * 64
    found = judged(sealed(), header, **{})
    assert found.outcome == "not reproduced"
    assert found.first is not None
    assert (found.first.tensor, found.first.file) == (None, "model.safetensors")


def test_a_scale_that_changed_its_dtype_is_not_a_near_one() -> None:
    other = sealed(**OTHER)
    other["outputs"]["tensors"][SCALE]["dtype"] = "F32"
    assert judged(sealed(), other).outcome == "not reproduced"


def test_an_unknown_distance_is_no_distance() -> None:
    made = sealed(1, **OTHER)
    made["outputs"]["tensors"][SCALE]["sha256"] = "0" * 64
    found = judged(sealed(), made)
    assert (found.outcome, found.largest_ulp) == ("not reproduced", None)


def test_the_document_is_its_own_schema() -> None:
    text = judged(sealed(), sealed(1, **OTHER)).model_dump(mode="json", by_alias=True)
    assert text["schema"] == "proofcard/reproduction/1"
    assert Reproduction.model_validate(text).model_dump(mode="json", by_alias=True) == text
