"""What both engines begin and end with: determinism and batches, and the files that they do not write."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard.calibration import tokenizer
from proofcard.calibration.batches import Batch, batches, read_samples
from proofcard.checkpoint import carried
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.determinism import make_deterministic
from proofcard.quantize import mtp
from proofcard.quantize.fit import modules_of
from proofcard.ranks import Ranks

QUANTIZATION = "hf_quant_config.json"


@dataclass(frozen=True)
class Work:
    """What an engine's `make` works on.

    `source_files` is the source's file table, as in the checkpoint's key. `further` names tensors of the
    source that go into the checkpoint although the model does not have them. `samples` is a sealed sample
    set, `device` `cpu` or `cuda`. The checkpoint goes to `folder`, what a run resumes from to `state`.
    """

    config: QuantizeConfig
    source: Source
    source_files: dict[str, Any]
    further: tuple[str, ...]
    samples: Path
    device: str
    folder: Path
    state: Path
    ranks: Ranks


def prepared(work: Work) -> list[Batch]:
    """Fix everything that torch leaves open, and put the samples into batches."""
    make_deterministic(work.config.hardware.threads, work.config.seed)
    return list(
        batches(read_samples(work.samples), work.config.calibration, pad_id(work.config, work.source))
    )


def pad_id(config: QuantizeConfig, source: Source) -> int:
    """What pads: the tokenizer's padding token, or its end-of-sequence token, as ModelOpt's example does."""
    words = tokenizer.opened(source.path, config.model.remote_code)
    chosen = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    return int(chosen or 0)


def complete(work: Work) -> None:
    """Make an engine's export whole: heads for further tokens, config.json, and what else engines read.

    Raises Stop when not all of the source is as the checkpoint's key says.
    """
    folder, source = work.folder, work.source
    source.whole()
    names = list(work.further)
    mtp.write(folder, source, names)
    quant = json.loads((folder / QUANTIZATION).read_text(encoding="utf-8"))
    quantization = json.loads((folder / carried.CONFIG).read_text(encoding="utf-8"))["quantization_config"]
    if excluded := modules_of(names):
        for patterns, key in ((quant["quantization"], "exclude_modules"), (quantization, "ignore")):
            patterns[key] = [*(patterns.get(key) or ()), *excluded]
        (folder / QUANTIZATION).write_text(json.dumps(quant, indent=4), encoding="utf-8")
    (folder / carried.CONFIG).write_text(carried.config(source.config, quantization), encoding="utf-8")
    carried.carry(source.path, work.source_files, folder)
