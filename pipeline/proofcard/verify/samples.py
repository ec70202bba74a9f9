"""Level `samples`: does a frozen sample set follow from its texts, and from its datasets, row by row?

The set alone proves less: its own digests, and that every token id is what the tokenizer makes of the stored
text. If a dataset is given, its rows are drawn again, by the recorded seed, and compared one by one.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from proofcard import json_files, manifest
from proofcard.calibration import frozen, tokenizer
from proofcard.calibration.batches import read_index, read_samples
from proofcard.calibration.identity import described
from proofcard.calibration.sample_files import TEXTS
from proofcard.calibration.sampling import TOGETHER, Sample, sample, tokenized
from proofcard.config.schema import Calibration
from proofcard.digest import sha256_json
from proofcard.errors import Stop
from proofcard.files import opened, plain, readable
from proofcard.verify.report import Finding, Level

HUB = "hub"
"""Instead of a copy's path: the hub, at the recorded commit."""

_LONGEST_TEXT = 64 << 20  # bytes of one text
_LARGE_TEXT = 1 << 20  # characters of a text that is tokenized with those before it, and none after
_ANY_BATCHES = {"batch_size": 1, "padding_side": "left", "pad_to": "batch", "attention_mask": True}


def check(
    folder: Path, words_from: Path, datasets: dict[str, Path], sealed: dict[str, Any] | None, work_dir: Path
) -> Level:
    """Check the sample set in `folder`, with the tokenizer of the model in `words_from`.

    `datasets` has copies by name, or `HUB`. `sealed` is the manifest of the checkpoint that it calibrated, if
    there is one. Notes of the hub's answers go to `work_dir`.

    Raises:
        Stop: when the set or the tokenizer cannot be read.
    """
    level = Level("samples")
    try:
        body = frozen.intact(folder).values()
    except manifest.NeverSealed as error:
        level.unchecked.append(f"the sample set: {error}")
        return level
    except Stop as error:
        level.add(Finding("mismatched", f"the sample set is not what was sealed: {error}"))
        return level
    level.counts["samples"] = len(read_index(folder))
    if sealed is not None:
        _belongs(level, body, sealed)
    calibration = _calibration(body, datasets)
    files = tokenizer.described(tokenizer.read_by(words_from))
    if body["inputs"].get("tokenizer") != files:
        level.unchecked.append(
            "the tokenizer is not the one that the sample set names: token ids were not checked"
        )
        return level
    words = tokenizer.opened(words_from, {}, files)  # nothing in a set allows code to be run
    _follow_from_texts(level, folder, words, calibration)
    _follow_from_rows(level, folder, words, calibration, body, datasets, work_dir)
    return level


def _belongs(level: Level, body: dict[str, Any], sealed: dict[str, Any]) -> None:
    """Whether it is the set that the checkpoint's manifest names."""
    named = _named(sealed["inputs"], "samples")
    if named.get("key") != body["key"] or named.get("digest") != sha256_json(body["outputs"]):
        level.add(
            Finding(
                "mismatched",
                "the checkpoint's manifest names another sample set",
                expected=str(named.get("key"))[:64],
                found=body["key"],
            )
        )


def _named(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of that name in a manifest, empty if there is none."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _calibration(body: dict[str, Any], datasets: dict[str, Path]) -> Calibration:
    """The recorded settings of the drawing, with copies where they are given.

    Raises:
        Stop: when they are not settings of this version, or a copy is given of something else.
    """
    settings = {name: value for name, value in body["config"].items() if name != "order"}
    named = settings.get("datasets")
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        raise Stop("the sample set's manifest names no datasets")
    if unknown := sorted(datasets.keys() - named.keys()):
        raise Stop(
            f"datasets.{unknown[0]} is not in the sample set, which has {', '.join(map(plain, named))}"
        )
    paths = {name: None if str(path) == HUB else path for name, path in datasets.items()}
    placed = {name: one | {"path": paths.get(name)} for name, one in named.items()}
    try:
        return Calibration.model_validate(
            settings | _ANY_BATCHES | {"datasets": placed, "frozen": None, "frozen_sha256": None}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(plain(step, 80) for step in fault["loc"])
        raise Stop(f"the sample set's settings cannot be understood: {where}: {fault['msg']}") from None


def _follow_from_texts(level: Level, folder: Path, words: Any, calibration: Calibration) -> None:
    """Recompute every token id from the stored text, or from decoded ids that have its digest."""
    unproven = 0
    texts = _texts(folder)
    known: list[tuple[int, dict[str, Any], np.ndarray, str]] = []
    for number, (record, ids) in enumerate(zip(read_index(folder), read_samples(folder), strict=True)):
        text = next(texts, None) if texts is not None else words.decode(ids.tolist())
        if text is None or hashlib.sha256(text.encode(errors="replace")).hexdigest() != record.get(
            "text_sha256"
        ):
            if texts is None:
                unproven += 1
                continue
            level.add(_differs(number, record, "its stored text is not the one that its record names"))
            continue
        known.append((number, record, ids, text))
        if len(known) == TOGETHER or len(text) > _LARGE_TEXT:  # ids take more memory than a text
            _compare_ids(level, known, words, calibration)
            known = []
    _compare_ids(level, known, words, calibration)
    if unproven:
        level.unchecked.append(
            f"{unproven} samples were truncated and the set has no texts ({TEXTS}): pass the datasets with "
            "datasets.NAME=FILE to draw them again"
        )


def _compare_ids(
    level: Level,
    known: list[tuple[int, dict[str, Any], np.ndarray, str]],
    words: Any,
    calibration: Calibration,
) -> None:
    """Compare the ids of samples with those of their texts: `known` has number, record, ids and text."""
    if not known:
        return
    again = tokenized([text for *_, text in known], words, calibration)
    for (number, record, ids, _), (made, truncated) in zip(known, again, strict=True):
        level.counts["token ids"] += len(ids)
        if len(made) != len(ids) or (made != ids).any():
            at = next(
                (i for i, (a, b) in enumerate(zip(made, ids, strict=False)) if a != b),
                min(len(made), len(ids)),
            )
            expected, actual = (str(side[at]) if at < len(side) else "no token" for side in (made, ids))
            message = f"its token {at} does not follow from its text"
            level.add(_differs(number, record, message, expected=expected, found=actual))
        elif record.get("truncated") is not truncated:
            level.add(
                _differs(number, record, f"it says truncated={record.get('truncated')}, which is wrong")
            )


def _texts(folder: Path) -> Iterator[str] | None:
    """The stored texts one by one; None where the set has none."""
    path = folder / TEXTS
    if not path.exists():
        return None

    def lines() -> Iterator[str]:
        with opened(path, folder) as file, readable(path):
            while line := file.readline(_LONGEST_TEXT):
                text = json_files.parse(line, TEXTS)
                if not isinstance(text, str):
                    raise Stop(f"{TEXTS} holds a line that is not a text")
                yield text

    return lines()


def _follow_from_rows(
    level: Level,
    folder: Path,
    words: Any,
    calibration: Calibration,
    body: dict[str, Any],
    datasets: dict[str, Path],
    work_dir: Path,
) -> None:
    """Draw the samples of every given dataset again, and compare them with the set's, one by one."""
    records = read_index(folder)
    for name, dataset in calibration.datasets.items():
        if name not in datasets:
            continue
        recorded = _named(_named(body["inputs"], "datasets"), name).get("digest")
        if described(name, dataset, work_dir / "sources")["digest"] != recorded:
            level.add(
                Finding(
                    "mismatched", f"dataset {plain(name, 80)} is not the recorded one: its digest differs"
                )
            )
        drawn, _ = sample(calibration, words, name)
        _compare(
            level, name, drawn, [(n, one) for n, one in enumerate(records) if one.get("dataset") == name]
        )
        level.counts["rows drawn again"] += len(drawn)
    if missing := [name for name in calibration.datasets if name not in datasets]:
        level.notes.append(
            f"{len(missing)} of {len(calibration.datasets)} datasets were not given, their rows not drawn "
            f"again: pass datasets.{missing[0]}=FILE"
        )


def _compare(level: Level, name: str, drawn: list[Sample], stored: list[tuple[int, dict[str, Any]]]) -> None:
    if len(drawn) != len(stored):
        message = f"dataset {plain(name, 80)} gives {len(drawn)} samples, the set has {len(stored)}"
        level.add(Finding("mismatched", message))
    for one, (number, record) in zip(drawn, stored, strict=False):
        expected = one.record()
        for part in ("split", "row", "text_sha256", "tokens_sha256"):
            if record.get(part) != expected[part]:
                what = f"its {part} is another one when it is drawn again"
                stored_value, now = str(record.get(part))[:80], str(expected[part])
                level.add(_differs(number, record, what, expected=now, found=stored_value))
                break


def _differs(number: int, record: dict[str, Any], message: str, **values: Any) -> Finding:
    where = (
        f"sample {number} ({plain(record.get('dataset', ''), 60)}, row {plain(record.get('row', ''), 20)})"
    )
    return Finding("mismatched", f"{where}: {message}", file="samples.jsonl", **values)
