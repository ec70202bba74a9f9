"""Whether a checkpoint's card follows from the documents beside it, to the character."""

from pathlib import Path

from proofcard.card import beside, facts
from proofcard.card.beside import Files
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.evidence import Evidence
from proofcard.pasted import command


def check(checkpoint: Path, sealed: Manifest, newer: list[Evidence]) -> tuple[Files, list[Evidence]]:
    """The card's files as the documents give them, and the documents that it quotes.

    `newer` are the documents that there are of the checkpoint elsewhere.

    Raises:
        Stop: when there is no card, it disagrees with its documents, or a newer document is another one.
    """
    card, documents, written = beside.stored(checkpoint, sealed)
    made = beside.files(facts.read(checkpoint, sealed, documents, card.inputs), written)
    again = f"write it again with {command('card', checkpoint=checkpoint)}, if the documents are right"
    if (wrong := beside.disagreement(checkpoint, made)) is not None:
        raise Stop(f"the card disagrees with its documents: {wrong}; {again}")
    if (wrong := beside.changed(documents, newer)) is not None:
        raise Stop(f"the card is older than the documents: {wrong}; {again}")
    return made, documents
