"""Drawing a sample set: from datasets and a tokenizer to the files that hold it.

Writes `samples.jsonl` (one record per sample), `texts.jsonl` (its text, a JSON string) and
`tokens.safetensors` (`input_ids` int32 of all samples end to end, `lengths` int64 [samples]).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from proofcard.calibration import tokenizer
from proofcard.calibration.sample_files import INDEX, TEXTS, TOKENS
from proofcard.calibration.sampling import Sample, rendering, sample
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json
from proofcard.errors import Usage
from proofcard.progress import console


def opened(config: QuantizeConfig, files: dict[str, Any]) -> Any:
    """The source's tokenizer, which reads exactly `files` (size and sha256 by name).

    Raises:
        Usage: when it cannot be opened, or has no chat template although the recipe uses one.
    """
    assert config.model.path is not None
    loaded = tokenizer.opened(config.model.path, config.model.remote_code, files)
    if config.calibration.chat_template and not loaded.chat_template:
        raise Usage(f"{config.model.path} has no chat template: set calibration.chat_template=false")
    return loaded


def draw(config: QuantizeConfig, files: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Draw, tokenize and write the sample set to `folder`; returns its statistics. `files` as in `opened`.

    Raises:
        Usage: when the tokenizer or its chat template cannot be used.
        Stop: when a dataset has too few usable rows.
    """
    loaded = opened(config, files)
    samples: list[Sample] = []
    skipped = {}
    with rendering(config.calibration, loaded) as render:
        for name in config.calibration.datasets:
            drawn, skipped[name] = sample(config.calibration, loaded, name, render=render)
            samples += drawn
            if skipped[name]:
                reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped[name].items())
                console.print(f"{name}: unreadable rows skipped ({reasons})", soft_wrap=True)
    lines = "".join(canonical_json(one.record()) + "\n" for one in samples)
    (folder / INDEX).write_text(lines, encoding="utf-8")
    texts = "".join(canonical_json(one.text) + "\n" for one in samples)
    (folder / TEXTS).write_text(texts, encoding="utf-8")
    tokens = {
        "input_ids": np.concatenate([one.token_ids for one in samples]),
        "lengths": np.array([len(one.token_ids) for one in samples], np.int64),
    }
    save_file(tokens, folder / TOKENS)
    return {
        "samples": len(samples),
        "tokens": int(tokens["lengths"].sum()),
        "truncated": sum(one.truncated for one in samples),
        "rows_skipped": skipped,
    }
