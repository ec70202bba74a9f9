"""What both models read: rows of the calibration datasets that calibrated nothing, or texts of a file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import files, json_files, manifest
from proofcard.calibration.batches import read_index
from proofcard.calibration.sample_files import INDEX
from proofcard.calibration.sampling import Sample, rendering, sample
from proofcard.config.evaluating import Evaluation
from proofcard.config.schema import Calibration
from proofcard.errors import Stop
from proofcard.evaluate.text_set import Text, Texts

_TEXTS = 100_000  # lines of a file; not a corpus


def held_out(
    calibration: Calibration, settings: Evaluation, tokenizer: Any, samples: Path, key: str
) -> Texts:
    """`asked.rows` rows of each dataset whose texts are not in the sealed sample set `samples`, of that key.

    Rows are chosen as the recipe chooses them, by `asked.seed`; their digests are held to the set's.

    Raises:
        Usage: when the chat template cannot be used.
        Stop: when the set is another one or damaged, or a dataset has too few rows left.
    """
    used = digests(samples, key)
    sampling = calibration.sampling.model_copy(update={"seed": settings.seed})
    datasets = {
        name: dataset.model_copy(update={"samples": settings.rows})
        for name, dataset in calibration.datasets.items()
    }
    chosen = calibration.model_copy(
        update={"sampling": sampling, "datasets": datasets, "sequence_length": settings.sequence_length}
    )
    documents: list[Sample] = []
    with rendering(chosen, tokenizer) as render:
        for name in datasets:
            documents += sample(chosen, tokenizer, name, used, render)[0]
    if both := [one for one in documents if one.text_sha256 in used]:
        raise Stop(
            f"row {both[0].row} of {both[0].dataset} calibrated the checkpoint: this is a bug of proofcard"
        )
    return _texts(documents, key)


def digests(samples: Path, key: str) -> frozenset[str]:
    """The sha256 of every text of a sealed sample set.

    Raises:
        Stop: when it is not the set of that key, or its index is not what was sealed.
    """
    try:
        sealed = manifest.read(samples)
        if sealed.key != key:
            raise Stop(
                f"{samples} is not the sample set that calibrated this checkpoint (key {sealed.key[:12]}, "
                f"not {key[:12]}): add samples=DIR, or use other texts with evaluation.text=FILE.jsonl"
            )
        index = sealed.outputs.files[INDEX]
        content = files.read_bytes(samples / INDEX, samples, json_files.SETTINGS)
    except (FileNotFoundError, KeyError):
        raise Stop(f"{samples} is not a sealed sample set: add evaluation.text=FILE.jsonl") from None
    if hashlib.sha256(content).hexdigest() != index.sha256:
        raise Stop(f"{samples}/{INDEX} is not what was sealed: texts cannot be proved to be held out")
    return frozenset(str(record.get("text_sha256")) for record in read_index(samples))


def of_file(path: Path, settings: Evaluation, tokenizer: Any) -> Texts:
    """The texts of a JSON-lines file: objects with `text`, and `dataset` where there are several kinds.

    Raises:
        Stop: naming the line that is not such an object.
    """
    documents = []
    for number, line in enumerate(files.read_bytes(path, None, json_files.TABLE).splitlines(), 1):
        if number > _TEXTS:
            raise Stop(f"{path} has more than {_TEXTS:,} lines: use fewer texts")
        row = json_files.parse(line, f"{path}, line {number}")
        text = row.get("text") if isinstance(row, dict) else None
        name = row.get("dataset", path.stem) if isinstance(row, dict) else None
        if not isinstance(text, str) or not isinstance(name, str):
            raise Stop(
                f'{path}, line {number} is not an object such as {{"text": "…"}}, with "dataset" a text'
            )
        ids = np.asarray(tokenizer(text)["input_ids"], np.int32)
        kept = ids[: settings.sequence_length]
        documents.append(Sample(name, "text", number - 1, text, kept, len(kept) < len(ids)))
    if not documents:
        raise Stop(f"{path} has no text")
    return _texts(documents, None)


def _texts(samples: list[Sample], key: str | None) -> Texts:
    """Those with a token that follows another. Raises Stop when there is none."""
    kept = [Text(one.dataset, one.token_ids, one.record()) for one in samples if len(one.token_ids) > 1]
    if not kept:
        raise Stop("no text has two tokens: there is nothing to predict")
    return Texts(tuple(kept), key)
