"""That a checkpoint is a quantization of its source, as far as no weight has to be read for it."""

from pathlib import Path
from typing import Any

from proofcard.checkpoint.source import Source
from proofcard.errors import Usage
from proofcard.evaluate.weights import Checkpoint
from proofcard.files import listed, plain
from proofcard.quantize import fit
from proofcard.verify import config_comparison, tokenizers
from proofcard.verify.report import Level


def check(checkpoint: Checkpoint, source: Source) -> None:
    """Configuration and tokenizer.

    Raises:
        Usage: for the first sign that they are different models, which cannot be compared.
    """
    prefix = f"{checkpoint.path} was not made from {source.path}: "
    dtypes = {tensor.dtype for tensor in checkpoint.files.values()}
    compared = config_comparison.Comparison(checkpoint.config, _plain(source), source.path, dtypes)
    if compared.findings:
        raise Usage(f"{prefix}config.json: {compared.findings[0].message}")
    level = Level("tokenizer")
    names = [{path.name for path in listed(folder)} for folder in (checkpoint.path, source.path)]
    tokenizers.check(checkpoint.path, source.path, names[0], names[1], level)
    if level.findings:
        finding = level.findings[0]
        raise Usage(f"{prefix}{finding.where()}: {finding.message}")


def check_weights(checkpoint: Checkpoint, source: Source, model: Any) -> None:
    """Check that the checkpoint has every weight of the source that `model` knows, and nothing else.

    Raises:
        Usage: naming the first that is missing or extra.
    """
    known, left_out = model.state_dict().keys(), fit.tied(model)
    for name in source.weights():
        wanted = source.tensors[name].shape
        stored = checkpoint.tensors.get(name)
        if stored is None:
            if name not in known or name in left_out:
                continue
            raise Usage(
                f"{checkpoint.path}: {name} is missing, which {source.path} has: see proofcard verify "
                f"checkpoint={checkpoint.path} source={source.path}"
            )
        if stored.shape != wanted:
            raise Usage(
                f"{checkpoint.path}: {name} has shape {list(stored.shape)}, the source's "
                f"{list(wanted)}: they are different models"
            )
    if extra := sorted(checkpoint.tensors.keys() - set(source.weights()) - left_out):
        raise Usage(
            f"{checkpoint.path} has {plain(extra[0])}, which {source.path} does not have: they are different "
            "models"
        )


def _plain(source: Source) -> dict[str, object]:
    """The source's configuration without what it says of its own quantization."""
    return {key: value for key, value in source.config.items() if key != "quantization_config"}


def same_folder(checkpoint: Path, source: Path) -> bool:
    """Whether both are one folder: there is nothing to compare."""
    return checkpoint.resolve() == source.resolve()
