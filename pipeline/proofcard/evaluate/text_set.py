"""The texts that both models read, as tokens."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.calibration.batches import Batch
from proofcard.digest import canonical_json, sha256_json


@dataclass(frozen=True)
class Text:
    """One text. `token_ids` int32 [tokens]; `record` says where it is from."""

    dataset: str
    token_ids: np.ndarray
    record: dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """Texts in their order; `samples_key` names the sample set that none of them is in."""

    each: tuple[Text, ...]
    samples_key: str | None

    def batches(self) -> list[Batch]:
        """Each text alone, without padding."""
        return [
            Batch(ids := one.token_ids.astype(np.int64)[None], np.ones_like(ids), one.dataset)
            for one in self.each
        ]

    def sha256(self) -> str:
        """Digest of datasets and token ids, in their order."""
        tokens = (one.token_ids.astype("<i4").tobytes() for one in self.each)
        digests = [hashlib.sha256(ids).hexdigest() for ids in tokens]
        return sha256_json([[one.dataset, digest] for one, digest in zip(self.each, digests, strict=True)])

    def index(self) -> str:
        """The record of each text, a line of JSON each."""
        return "".join(canonical_json(one.record) + "\n" for one in self.each)
