"""What a recipe takes from the hub, as it is here now."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256


class FetchedFile(Document):
    """A file of the model, its digest checked; `fetched` now, or it was here."""

    size: NonNegativeInt
    sha256: Sha256
    fetched: bool


class FetchedModel(Document):
    """The model's files at a commit."""

    repository: str
    commit: str
    files: dict[str, FetchedFile]


class FetchedSamples(Document):
    """The sealed sample set that was drawn from the datasets, or was here."""

    key: Sha256
    samples: NonNegativeInt
    tokens: NonNegativeInt


class Fetched(Document):
    """The model is null where it is a local folder, the samples where no dataset is on the hub."""

    schema_: Literal["proofcard/fetched/1"] = Field(default="proofcard/fetched/1", alias="schema")
    recipe: str
    model: FetchedModel | None
    samples: FetchedSamples | None
