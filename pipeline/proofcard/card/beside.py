"""The card's files beside the sealed ones: composed, written, or compared with the documents."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from proofcard import json_files
from proofcard.beside_seal import may_lie_beside
from proofcard.card import evaluations
from proofcard.card.assemble import assembled
from proofcard.card.facts import FOLDER, Facts, file_name, whole
from proofcard.card.markdown import readme
from proofcard.card.page import page
from proofcard.card.svg import drawn
from proofcard.disk import write_whole
from proofcard.documents.base import read as read_document
from proofcard.documents.card import Card
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.evidence import Evidence, about, in_order, opened
from proofcard.files import plain, read_bytes
from proofcard.hub_cache import name_in_cache
from proofcard.pasted import command

CARD = f"{FOLDER}/card.json"
EVALUATIONS = f"{FOLDER}/every_eval_ever.json"
HUB_RESULTS = ".eval_results"
_DECIDED = ("holds", "differs", "not checked")  # results of a level that was asked for
_LARGEST = 64 << 20  # bytes of a file beside


@dataclass(frozen=True)
class Files:
    """The card, and the text of each file beside the checkpoint by its name."""

    card: Card
    texts: dict[str, str]


def files(facts: Facts, written: str) -> Files:
    """Every file of the card. `written` is the time that the Every Eval Ever file names.

    Raises:
        Stop: when a document is not whole.
    """
    card = assembled(facts)
    texts = {f"{FOLDER}/{file_name(one)}": one.text for one in facts.documents}
    charts = [each for section in card.sections for each in section.charts]
    with whole("a chart"):
        texts |= {f"{FOLDER}/{each.name}.svg": drawn(each) for each in charts}
    with whole("what others read of the evaluations"):
        texts |= {f"{HUB_RESULTS}/{name}": text for name, text in evaluations.hub_files(facts).items()}
        if (log := evaluations.every_eval_ever(facts, written)) is not None:
            texts[EVALUATIONS] = log
    texts |= {CARD: card.text(), "README.html": page(card), "README.md": readme(card)}
    return Files(card, texts)


def write(checkpoint: Path, made: Files) -> None:
    """Write the files, README.md last; files of an earlier card that this one does not have are removed.

    Raises:
        Stop: when a folder for them is a link: nothing is written through it.
    """
    if name_in_cache(checkpoint) is not None:
        raise Stop(
            f"{checkpoint} is in the hub's cache, which a card would damage: copy the folder elsewhere"
        )
    for folder in (FOLDER, HUB_RESULTS):
        if (checkpoint / folder).is_symlink():
            raise Stop(
                f"{checkpoint / folder} is a link, and a card is written into the checkpoint alone: remove it"
            )
    (checkpoint / FOLDER).mkdir(exist_ok=True)
    for former in _ours(checkpoint):
        if former not in made.texts:
            (checkpoint / former).unlink()
    for name, text in made.texts.items():
        (checkpoint / name).parent.mkdir(exist_ok=True)
        write_whole(checkpoint / name, text)


def now() -> str:
    """Unix time in whole seconds."""
    return str(int(time.time()))


def stored(checkpoint: Path, sealed: Manifest) -> tuple[Card, list[Evidence], str]:
    """A checkpoint's card, the documents that it quotes, and when its evaluations were written.

    Raises:
        Stop: when there is none, or a document in it is about another checkpoint.
    """
    try:
        card = read_document(Card, checkpoint / CARD, checkpoint)
    except FileNotFoundError:
        raise Stop(
            f"{checkpoint} has no card: write one with {command('card', checkpoint=checkpoint)}"
        ) from None
    if card.key != sealed.key:
        raise Stop(
            f"{checkpoint / CARD} belongs to the checkpoint {card.key[:12]}, not to {sealed.key[:12]}: "
            "write it again"
        )
    documents = []
    for name in _ours(checkpoint):
        if not name.endswith(".json") or name in (CARD, EVALUATIONS):
            continue
        one = opened(checkpoint / name, checkpoint)
        if one is None or not about(one, sealed):
            raise Stop(
                f"{checkpoint / name} is not a document about this checkpoint: remove it, or write the card "
                "again"
            )
        documents.append(one)
    written = "0"
    if (checkpoint / EVALUATIONS).exists():
        log = json_files.read(checkpoint / EVALUATIONS, checkpoint)
        written = str(log.get("retrieved_timestamp"))
    return card, in_order(documents), written


def disagreement(checkpoint: Path, made: Files) -> str | None:
    """The first place in which a file of the card differs from what the documents give, in a sentence."""
    for name, text in made.texts.items():
        try:
            content = read_bytes(checkpoint / name, checkpoint, _LARGEST)
        except FileNotFoundError:
            return f"{name} is missing"
        if content != text.encode():
            return _first(name, content, text)
    further = sorted(set(_ours(checkpoint)) - set(made.texts))
    return f"{further[0]} belongs to no document that the card quotes" if further else None


def changed(documents: list[Evidence], newer: list[Evidence]) -> str | None:
    """The first document that differs from the card's copy of it."""
    copies = {file_name(one): one for one in documents}
    for one in newer:
        name = file_name(one)
        copy = copies.get(name, one)
        if copy.sha256 != one.sha256 and not _both_hold(copy, one):
            return f"{one.path} is no longer what the card quotes as {FOLDER}/{name}"
    return None


def _both_hold(copy: Evidence, one: Evidence) -> bool:
    """Whether two verifications of one manifest agree: a reader's own may have asked for fewer levels."""
    if one.kind != "verification" or one.values.get("manifest") != copy.values.get("manifest"):
        return False
    results = [
        {level["result"] for level in each.values["levels"].values() if level["result"] in _DECIDED}
        for each in (copy, one)
    ]
    return all(found == {"holds"} for found in results)


def _first(name: str, content: bytes, text: str) -> str:
    here = content.decode("utf-8", "replace").split("\n")
    expected = text.split("\n")
    for number, line in enumerate(expected, 1):
        text = here[number - 1] if number <= len(here) else ""
        if text != line:
            return f"{name}, line {number}, reads {_part(text, line)}; the documents give {_part(line, text)}"
    return f"{name} has text after its last line"


def _part(line: str, other: str) -> str:
    """The part of a line around its first difference from another."""
    same = next(
        (n for n, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), min(len(line), len(other))
    )
    start = max(0, same - 30)
    return json.dumps(("…" if start else "") + plain(line[start : same + 50]), ensure_ascii=False)


def _ours(checkpoint: Path) -> list[str]:
    """The files of a card's own folder, by their names from the checkpoint."""
    folder = checkpoint / FOLDER
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(f"{FOLDER}/{name}" for name in names if may_lie_beside(f"{FOLDER}/{name}"))
