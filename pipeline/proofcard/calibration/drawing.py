"""Drawing a sample set: from datasets and a tokenizer to the two files that hold it.

Writes `samples.jsonl` (one record per sample) and `tokens.safetensors` (`input_ids` int32 of all
samples end to end, `lengths` int64 [samples]).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from proofcard.calibration.batches import INDEX, TOKENS
from proofcard.calibration.sampling import Sample, sample
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json
from proofcard.errors import Stop
from proofcard.progress import console


def draw(config: QuantizeConfig, folder: Path) -> dict[str, Any]:
    """Draw, tokenize and write the sample set to `folder`; returns its statistics.

    Raises:
        Stop: when a dataset has too few usable rows, or there is no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.model.path, trust_remote_code=False)
    if config.calibration.chat_template and not tokenizer.chat_template:
        raise Stop(f"{config.model.path} has no chat template: set calibration.chat_template=false")
    chosen: list[Sample] = []
    skipped = {}
    for name in config.calibration.datasets:
        found, skipped[name] = sample(config.calibration, tokenizer, name)
        chosen += found
        if skipped[name]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped[name].items())
            console.print(f"{name}: rows of another shape skipped ({reasons})", soft_wrap=True)
    lines = "".join(canonical_json(one.record()) + "\n" for one in chosen)
    (folder / INDEX).write_text(lines, encoding="utf-8")
    tokens = {
        "input_ids": np.concatenate([one.token_ids for one in chosen]),
        "lengths": np.array([len(one.token_ids) for one in chosen], np.int64),
    }
    save_file(tokens, folder / TOKENS)
    return {
        "samples": len(chosen),
        "tokens": int(tokens["lengths"].sum()),
        "truncated": sum(one.truncated for one in chosen),
        "rows_skipped": skipped,
    }
