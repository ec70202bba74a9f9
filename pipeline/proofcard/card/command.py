"""`card`: writes the model card of a checkpoint from its documents, or checks it against them.

uv run proofcard card checkpoint=runs/checkpoints/demo               # README.md and README.html beside it
uv run proofcard card checkpoint=runs/checkpoints/demo check=true    # do they follow from the documents?
"""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.card import beside, checking, facts, runs
from proofcard.config import compose
from proofcard.config.card import CardConfig
from proofcard.disk import check_writable
from proofcard.documents.card import Card, Inputs
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, before_work
from proofcard.evidence import Evidence, checkpoint_of, gathered
from proofcard.files import read_bytes
from proofcard.screen import Screen
from proofcard.tracking import is_off

_SOURCE_CARD = 1 << 20  # bytes of the source's README.md


def run(overrides: list[str]) -> int:
    """Write the card, or check it. Returns 0.

    Raises:
        Usage: when the checkpoint does not exist.
        Stop: when the card and the documents disagree, or a document is not whole.
    """
    config = compose(CardConfig, "card", overrides)
    with before_work():
        sealed = checkpoint_of(config.checkpoint)
        documents = gathered(sealed, config.checkpoint, config.work_dir)
        if not config.check:
            check_writable(config.checkpoint)
            given = _inputs(config, sealed)
    if config.check:
        return _check(config, sealed, documents)
    tracked = (
        {} if is_off(config.tracking) else runs.found(config.tracking, config.work_dir, sealed.key, documents)
    )
    given = given.model_copy(update={"runs": tracked})
    made = beside.files(facts.read(config.checkpoint, sealed, documents, given), beside.now())
    beside.write(config.checkpoint, made)
    subject = tracking.of_sealed(sealed)
    with tracking.opened(config.tracking, "card", config.work_dir, subject=subject) as tracker:
        for name in ("README.md", "README.html", beside.CARD):
            tracker.file(config.checkpoint / name, "card")
        last = f"card: {config.checkpoint / 'README.md'}, and README.html"
        outcome.present(made.card, partial(_show, made.card), last)
    return 0


def _check(config: CardConfig, sealed: Manifest, newer: list[Evidence]) -> int:
    made, documents = checking.check(config.checkpoint, sealed, newer)
    card = made.card
    numbers = sum(len(each.lines) + sum(len(table.rows) for table in each.tables) for each in card.sections)
    line = (
        f"{numbers} lines of {len(made.texts)} files follow from {len(documents)} documents to the character"
    )
    outcome.present(card, lambda out: out.print(line, soft_wrap=True), "agrees")
    return 0


def _inputs(config: CardConfig, sealed: Manifest) -> Inputs:
    """What is chosen; the licence from the source's own card unless it is given."""
    model = sealed.config["model"]
    licence = {
        "license": config.license,
        "license_name": config.license_name,
        "license_link": config.license_link,
    }
    if config.source is not None and config.license is None:
        licence |= _licence(config.source)
    base = config.base_model or model.get("repository")
    return Inputs(
        title=config.title or f"{str(base or model['name']).split('/')[-1]}-NVFP4",
        base_model=base,
        repository=config.repository,
        runs={},
        **licence,
    )


def _licence(source: Path) -> dict[str, str | None]:
    """The licence that the card of the source names.

    Raises:
        Stop: when its metadata cannot be read.
    """
    from huggingface_hub import ModelCard

    try:
        text = read_bytes(source / "README.md", source, _SOURCE_CARD).decode()
        data = ModelCard(text, ignore_metadata_errors=True).data
    except FileNotFoundError:
        return {}
    except (ValueError, UnicodeDecodeError) as error:
        raise Stop(
            f"{source / 'README.md'} has metadata that cannot be read ({error}): set license=…"
        ) from None
    named = {name: data.get(name) for name in ("license", "license_name", "license_link")}
    return {name: str(each) for name, each in named.items() if each is not None}


def _show(card: Card, out: Screen) -> None:
    """Sections with data, those without and what fills them."""
    for section in card.sections:
        if section.command is not None:
            out.print(f"not measured  {section.title}: {section.command}", soft_wrap=True)
    for value in card.sections[0].lines:
        out.print(f"{value.name:<32} {value.shown}  [{value.mark}]", soft_wrap=True)
