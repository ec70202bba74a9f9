"""Profiles are data, and the arithmetic of the KV cache is that of the model's configuration."""

import json

import pytest

from proofcard.bundle import bundled
from proofcard.plan.serving_memory import kv_bytes, profiles, runs

CONFIG = json.loads(bundled("conf/model/minimax_m2_7/config.json").read_text())


def test_the_card_s_four_machines_are_profiles() -> None:
    assert [profile.name for profile in profiles()] == [
        "2× RTX PRO 6000", "4× RTX 5090", "4× H200", "2× B200",
    ]  # fmt: skip
    assert all(profile.claims and profile.claims[0].correction for profile in profiles())


@pytest.mark.parametrize(("gpus", "width", "expected"), [(1, 2, 253_952), (2, 2, 126_976), (16, 1, 15_872)])
def test_kv_heads_are_split_while_they_last(gpus: int, width: int, expected: int) -> None:
    assert kv_bytes(CONFIG, gpus, width) == expected


@pytest.mark.parametrize(
    ("capability", "how"), [(120, "native"), (100, "native"), (90, "W4A16"), (89, "W4A16"), (75, "no")]
)
def test_nvfp4_is_native_from_blackwell_on(capability: int, how: str) -> None:
    assert runs(capability) == how
