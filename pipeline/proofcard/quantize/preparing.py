"""What both engines begin and end with: determinism and batches, and the files that they do not write."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from proofcard.calibration.batches import Batch, batches, read_samples
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.determinism import make_deterministic
from proofcard.ranks import Ranks

_NOT_COPIED = (".safetensors", ".index.json", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class Work:
    """What an engine's `make` works on.

    `samples` is a sealed sample set, `device` `cpu` or `cuda`. The checkpoint goes to `folder`, what a later
    run needs to go on to `state`.
    """

    config: QuantizeConfig
    source: Source
    samples: Path
    device: str
    folder: Path
    state: Path
    ranks: Ranks


def prepared(work: Work) -> list[Batch]:
    """Fix everything that torch leaves open, and put the samples into batches."""
    make_deterministic(work.config.hardware.threads, work.config.seed)
    return list(batches(read_samples(work.samples), work.config.calibration, pad_id(work.source)))


def pad_id(source: Source) -> int:
    """What pads: the tokenizer's padding token, or its end-of-sequence token, as ModelOpt's example does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.path, trust_remote_code=False)
    chosen = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(chosen or 0)


def complete(folder: Path, source: Source) -> None:
    """Add what the export leaves out and the model needs: tokenizer, generation settings, remote code.

    Raises Stop when not all of the source is as the checkpoint's key says.
    """
    source.whole()
    for path in sorted(source.path.iterdir()):
        wanted = path.is_file() and path.name[0] != "." and not path.name.endswith(_NOT_COPIED)
        if wanted and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
