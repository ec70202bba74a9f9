"""From two folders and texts to the files of an evaluation: the pass, and the document of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from proofcard.checkpoint.source import Source
from proofcard.config.evaluating import Evaluation
from proofcard.config.schema import Model
from proofcard.determinism import make_deterministic
from proofcard.documents import evaluation as documents
from proofcard.errors import Stop
from proofcard.evaluate import numbers, pair
from proofcard.evaluate.candidates import Candidate, attribution
from proofcard.evaluate.compute import LayerParts, computes, hidden_of, layer_parts
from proofcard.evaluate.files import NUMBERS, TEXTS, VALUES
from proofcard.evaluate.passes import Arrays, Pass
from proofcard.evaluate.streams import Stream, slug, streams
from proofcard.evaluate.text_set import Texts
from proofcard.evaluate.weights import Checkpoint
from proofcard.ranks import Ranks


@dataclass(frozen=True)
class Work:
    """What an evaluation works on. `recipe` made the checkpoint, `inputs` are digests.

    The result goes to `folder`, what a later run needs to resume to `state`; `memory` bytes of hidden
    states may stay in memory.
    """

    model: Model
    evaluation: Evaluation
    source: Source
    checkpoint: Checkpoint
    recipe: str | None
    candidates: tuple[Candidate, ...]
    texts: Texts
    inputs: dict[str, Any]
    device: str
    threads: int
    seed: int
    memory: int
    folder: Path
    state: Path
    ranks: Ranks


def make(work: Work, report: Callable[[int, dict[str, float]], None]) -> dict[str, int]:
    """Run both models through every layer and write the results; returns the manifest's statistics.

    `report` is called with every layer's errors.

    Raises:
        Usage: when the two folders do not hold the same model.
        Stop: when the model cannot be run layer by layer, or a layer gives what is not finite.
    """
    make_deterministic(work.threads, work.seed)
    own, theirs = computes(work.source, work.checkpoint, work.model, work.device)
    pair.check_weights(work.checkpoint, work.source, own.stepper.model)
    prefix = own.stepper.prefix
    inside = [layer_parts(own.stepper.modules, f"{prefix}.{index}") for index in range(own.stepper.layers)]
    if any(each.kv for each in work.candidates) and not any(each.attentions for each in inside):
        raise Stop("no attention of this model is known here: leave the candidates with +kv out")
    cells = work.evaluation.routes and any(each.blocks for each in inside)
    runs = streams(work.candidates, cells)
    batches = work.texts.batches()
    hidden = hidden_of(work.source, own.stepper)
    passing = Pass(
        own,
        theirs,
        work.checkpoint,
        runs,
        batches,
        work.state,
        hidden,
        work.memory,
        work.ranks,
        work.evaluation.together,
    )
    sums, values = passing.run(lambda index, of_layer: report(index, _errors(runs, of_layer)))
    sizes = np.array([text.input_ids.size for text in batches])
    owner = np.repeat(np.arange(len(sizes)), sizes - 1)
    results = numbers.Results(sums, values, owner, tuple(text.dataset for text in batches), sizes)
    if work.ranks.leads:
        _write(work, results, _document(work, results, runs, inside))
    return {"texts": len(batches), "positions": len(owner), "layers": len(sums)}


def _errors(runs: list[Stream], sums: Arrays) -> dict[str, float]:
    """A layer's relative errors, by the names of metrics."""
    norm = sums["norm"].sum()
    rows = [(slug(run.name), row) for run, row in zip(runs[1:], sums["error"], strict=True)]
    return {
        f"error/{name}": float(np.sqrt(row.sum() / norm)) for name, row in [*rows, ("local", sums["local"])]
    }


def _document(
    work: Work, results: numbers.Results, runs: list[Stream], inside: list[LayerParts]
) -> documents.Evaluation:
    draws = numbers.Draws(work.evaluation.resamples, work.evaluation.seed)
    names = [run.name for run in runs[1:]]
    blocks = [list(each.blocks) for each in inside]
    return documents.Evaluation(
        checkpoint=documents.Subject(
            files_sha256=work.inputs["checkpoint"]["digest"],
            key=work.inputs["checkpoint"]["key"],
            recipe=work.recipe,
        ),
        source=documents.Subject(files_sha256=work.inputs["source"]["digest"]),
        texts=documents.Texts(
            documents=len(results.names),
            tokens=int(results.tokens.sum()),
            positions=len(results.owner),
            sha256=work.inputs["texts"]["digest"],
            datasets={name: results.names.count(name) for name in dict.fromkeys(results.names)},
            samples_key=work.texts.samples_key,
        ),
        resamples=work.evaluation.resamples,
        seed=work.evaluation.seed,
        last=work.candidates[-1].name,
        streams=[
            _stream(run, numbers.divergences(results, place, draws)) for place, run in enumerate(runs[1:])
        ],
        costs=numbers.costs(results, attribution(work.candidates), names, draws),
        layers=numbers.layers(results, names, len(work.candidates), blocks, draws),
        experts=numbers.experts(results, _experts(inside), draws),
    )


def _experts(inside: list[LayerParts]) -> list[list[str]]:
    """The names of each layer's experts."""
    return [[name for own in each.blocks.values() for name in own] for each in inside]


def _stream(run: Stream, measured: dict[str | None, documents.Divergence]) -> documents.Stream:
    return documents.Stream(
        name=run.name,
        role="cell" if run.routes_of else "candidate",
        all=measured[None],
        by_dataset={name: value for name, value in measured.items() if name is not None},
    )


def _write(work: Work, results: numbers.Results, evaluation: documents.Evaluation) -> None:
    """The document, the texts, and every position's values."""
    (work.folder / NUMBERS).write_text(evaluation.text(), encoding="utf-8")
    (work.folder / TEXTS).write_text(work.texts.index(), encoding="utf-8")
    tables = {stream.name: results.values[place] for place, stream in enumerate(evaluation.streams)}
    save_file({"text": results.owner, **tables}, work.folder / VALUES)
