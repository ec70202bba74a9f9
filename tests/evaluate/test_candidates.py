"""Which ways a checkpoint can be run, and what their differences say."""

from proofcard.evaluate.candidates import Stored, all_of, attribution, fault, parsed


def names(stored: Stored) -> list[str]:
    return [candidate.name for candidate in all_of(stored)]


def test_all_that_a_checkpoint_has_the_scales_for() -> None:
    assert names(Stored(False, False, False)) == ["w4a16"]
    assert names(Stored(True, True, False)) == ["w4a16", "w4a4", "w4a4+kv"]
    assert names(Stored(True, True, True)) == ["w4a16", "w4a4", "w4a4+kv_affine", "w4a4+kv"]
    assert names(Stored(False, True, False)) == ["w4a16", "w4a16+kv"]


def test_names_are_read_back() -> None:
    for candidate in all_of(Stored(True, True, True)):
        assert parsed(candidate.name) == candidate


def test_a_missing_scale_is_named() -> None:
    nothing = Stored(False, False, False)
    assert "input scales" in str(fault(parsed("w4a4"), nothing))
    assert "+kv_one" in str(fault(parsed("w4a16+kv"), nothing))
    assert "affine" in str(fault(parsed("w4a16+kv_affine"), nothing))
    assert fault(parsed("w4a16+kv_one"), nothing) is None


def test_the_attribution_is_of_what_was_run() -> None:
    said = attribution([parsed(name) for name in ("w4a16", "w4a4", "w4a4+kv_affine", "w4a4+kv")])
    assert [(step.cost, step.before, step.after) for step in said] == [
        ("weights", None, "w4a16"),
        ("activations", "w4a16", "w4a4"),
        ("KV cache, affine", "w4a4", "w4a4+kv_affine"),
        ("KV cache, biases dropped", "w4a4", "w4a4+kv"),
        ("the dropped biases", "w4a4+kv_affine", "w4a4+kv"),
    ]
    assert attribution([parsed("w4a4")]) == []
