"""What both engines share: determinism and batches at the start, the files beside the shards at the end."""

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
from proofcard.quantize.fit import exclude_patterns
from proofcard.ranks import Ranks

QUANTIZATION = "hf_quant_config.json"


@dataclass(frozen=True)
class Work:
    """The inputs of an engine's `make`, its output folder and its state.

    `source_files` is the source's file table, as in the checkpoint's key. `mtp_tensors` names tensors of
    the source that go into the checkpoint although the model does not have them. `samples` is a sealed sample
    set, `device` is `cpu` or `cuda`. The checkpoint goes to `folder`, the state to resume from to `state`.
    """

    config: QuantizeConfig
    source: Source
    source_files: dict[str, Any]
    mtp_tensors: tuple[str, ...]
    samples: Path
    device: str
    folder: Path
    state: Path
    ranks: Ranks


def prepared(work: Work) -> list[Batch]:
    """Make torch deterministic, and put the samples into batches."""
    make_deterministic(work.config.hardware.threads, work.config.seed)
    return list(
        batches(read_samples(work.samples), work.config.calibration, pad_id(work.config, work.source))
    )


def pad_id(config: QuantizeConfig, source: Source) -> int:
    """The tokenizer's padding token, or its end-of-sequence token, as in ModelOpt's example."""
    opened = tokenizer.opened(source.path, config.model.remote_code)
    padding = opened.pad_token_id if opened.pad_token_id is not None else opened.eos_token_id
    return int(padding or 0)


def complete(work: Work) -> None:
    """Complete an engine's export: MTP heads, config.json, and the other files that engines read.

    Raises Stop when the source has changed since the checkpoint's key was computed.
    """
    folder, source = work.folder, work.source
    source.whole()
    names = list(work.mtp_tensors)
    mtp.write(folder, source, names)
    quant = json.loads((folder / QUANTIZATION).read_text(encoding="utf-8"))
    quantization = json.loads((folder / carried.CONFIG).read_text(encoding="utf-8"))["quantization_config"]
    if excluded := exclude_patterns(names):
        for patterns, key in ((quant["quantization"], "exclude_modules"), (quantization, "ignore")):
            patterns[key] = [*(patterns.get(key) or ()), *excluded]
        (folder / QUANTIZATION).write_text(json.dumps(quant, indent=4), encoding="utf-8")
    (folder / carried.CONFIG).write_text(carried.config(source.config, quantization), encoding="utf-8")
    carried.carry(source.path, work.source_files, folder)
