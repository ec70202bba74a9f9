"""600 tamperings with a sealed checkpoint, 570 without the seal or under one made anew: none is verified.

What a level cannot know is one of the classes of `UNPROVEN`, counted here; the seal leaves none of them.
"""

from collections import Counter
from pathlib import Path

import pytest
from verify.making import reseal
from verify.tampered import UNPROVEN, copy, make_pair
from verify.tampering import KINDS, tamper

from proofcard import manifest
from proofcard.checkpoint.source import Source
from proofcard.verify import integrity, structure, weights

SEALED, UNSEALED, PARTS = 600, 570, 3
MOST_UNPROVEN = 0.2  # of those without the seal: a campaign of what cannot be seen would show nothing

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("campaign"))


def test_untouched_it_holds(pair: Pair) -> None:
    source, made = Source(pair[0]), pair[1]
    seal = integrity.Seal(made)
    levels = [
        integrity.check(made, seal, 1),
        structure.check(made, source, seal.body),
        structure.check(made, None, seal.body),
        weights.check(made, source, 1, seal.body),
    ]
    assert [(level.result, level.findings, level.unchecked) for level in levels] == [("holds", [], [])] * 4


@pytest.mark.parametrize("part", range(PARTS))
def test_the_seal_shows_every_tampering(pair: Pair, tmp_path: Path, part: int) -> None:
    missed, folder = [], tmp_path / "copy"
    seal = integrity.Seal(copy(pair[1], folder))
    for seed in range(part, SEALED, PARTS):
        done = tamper(copy(pair[1], folder), seed)
        assert (folder / manifest.NAME).samefile(pair[1] / manifest.NAME)  # so the seal is as it was read
        holds = integrity.check(folder, seal, 1).result == "holds"
        if holds and done.what != "add_file: README.md":  # a card may stand beside what is sealed
            missed.append((seed, done))
    assert missed == []


@pytest.mark.parametrize("part", range(PARTS))
def test_without_the_seal_only_what_cannot_be_known_passes(pair: Pair, tmp_path: Path, part: int) -> None:
    """Every other one has a manifest made anew, which a seal cannot rule out: a seal is a digest."""
    source, missed, unproven = Source(pair[0]), [], Counter[str]()
    for seed in range(SEALED + part, SEALED + UNSEALED, PARTS):
        folder = copy(pair[1], tmp_path / "copy")
        done = tamper(folder, seed)
        sealed = None
        (folder / manifest.NAME).unlink()
        if seed % 2 and _can_be_sealed(folder, pair[0]):
            seal = integrity.Seal(folder)
            assert integrity.check(folder, seal, 1).result == "holds", (seed, done)
            sealed = seal.body
        if structure.check(folder, source, sealed).result != "holds":
            continue
        if weights.check(folder, source, 1, sealed).result != "holds":
            continue
        if done.unproven is None:
            missed.append((seed, done))
        else:
            unproven[done.unproven] += 1
    assert missed == []
    assert unproven.keys() <= UNPROVEN.keys()
    assert unproven.total() <= MOST_UNPROVEN * UNSEALED / PARTS, unproven


def _can_be_sealed(folder: Path, source: Path) -> bool:
    try:
        reseal(folder, source)
    except Exception:  # a broken header: no seal of ours can be made over it
        return False
    return True


def test_every_kind_is_drawn() -> None:
    assert len(KINDS) >= 28
    assert SEALED / len(KINDS) > 20 and UNSEALED / len(KINDS) > 20
