"""The stage `samples`: from datasets and a tokenizer to a frozen, sealed sample set.

Writes `samples.jsonl` (one record per sample) and `tokens.safetensors` (`input_ids` int32 of all
samples end to end, `lengths` int64 [samples]).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from proofcard import manifest, stage
from proofcard.calibration import frozen
from proofcard.calibration.batches import BATCHING, INDEX, TOKENS
from proofcard.calibration.sampling import Sample, sample
from proofcard.calibration.sources import described
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json, code_digest, file_table
from proofcard.errors import Stop
from proofcard.fingerprint import lock_digest, packages
from proofcard.progress import console

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_DECIDING = tuple(
    f"calibration/{room}.py" for room in ("adapters", "sampling", "sources", "stage", "uniform")
)


def describe(config: QuantizeConfig) -> dict[str, Any]:
    """What decides the sample set: configuration, inputs with their digests, toolchain. Reads the inputs."""
    assert config.model.path is not None
    chosen = config.calibration.identity()
    tokenizer = file_table(
        config.model.path, [p for n in TOKENIZER_FILES if (p := config.model.path / n).exists()]
    )
    if not tokenizer:
        raise Stop(f"model.path={config.model.path} holds no tokenizer: it needs a tokenizer.json")
    config_of_samples = {key: value for key, value in chosen.items() if key not in BATCHING}
    if config.calibration.frozen is not None:
        return frozen.described(config.calibration, config_of_samples, tokenizer)
    records = config.work_dir / "sources"
    datasets = {
        name: described(name, dataset, records) for name, dataset in config.calibration.datasets.items()
    }
    return {
        "config": config_of_samples,
        "inputs": {"datasets": datasets, "tokenizer": tokenizer},
        "toolchain": {
            "packages": packages("datasets", "numpy", "tokenizers", "transformers"),
            "code": code_digest(*_DECIDING),
        },
    }


def place(config: QuantizeConfig, key: str) -> Path:
    """Where the sample set of this key stands."""
    return config.work_dir / "samples" / f"{config.recipe.name}-{key[:12]}"


def make(config: QuantizeConfig, origin: dict[str, Any], final: Path) -> dict[str, Any]:
    """Draw, tokenize and seal the sample set at `final`, or copy a frozen one there; returns its manifest.

    `origin` is what `describe` has said.

    Raises:
        Stop: when a dataset has too few usable rows.
    """
    if config.calibration.frozen is not None:
        return frozen.copied(config.calibration.frozen, final)
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
    records = [one.record() for one in chosen]
    key = manifest.key_of("samples", **origin)
    with stage.building(final) as partial:
        lines = "".join(canonical_json(record) + "\n" for record in records)
        (partial / INDEX).write_text(lines, encoding="utf-8")
        tokens = {
            "input_ids": np.concatenate([one.token_ids for one in chosen]),
            "lengths": np.array([len(one.token_ids) for one in chosen], np.int64),
        }
        save_file(tokens, partial / TOKENS)
        body = {
            "stage": "samples",
            "key": key,
            **origin,
            "toolchain": origin["toolchain"] | {"lock": lock_digest()},
            "seeds": {"sampling": config.calibration.sampling.seed},
            "platform": {},
            "statistics": {
                "samples": len(chosen),
                "tokens": int(tokens["lengths"].sum()),
                "truncated": sum(one.truncated for one in chosen),
                "rows_skipped": skipped,
            },
        }
        return stage.seal(partial, final, body)
