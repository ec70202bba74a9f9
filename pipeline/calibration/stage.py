"""The stage `samples`: from datasets and a tokenizer to a frozen, sealed sample set.

Writes `samples.jsonl` (one record per sample) and `tokens.safetensors` (`input_ids` int32 of all
samples end to end, `lengths` int64 [samples]).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pipeline import manifest, stage
from pipeline.calibration.batches import BATCHING, INDEX, TOKENS
from pipeline.calibration.sampling import Sample, data_files, sample
from pipeline.config.schema import QuantizeConfig
from pipeline.digest import canonical_json, code_digest, file_table, sha256_json
from pipeline.errors import Stop
from pipeline.fingerprint import lock_digest, packages

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def describe(config: QuantizeConfig) -> dict[str, Any]:
    """What decides the sample set: configuration, inputs with their digests, toolchain. Reads the inputs."""
    assert config.model.path is not None
    chosen = config.calibration.identity()
    datasets = {}
    for name, dataset in config.calibration.datasets.items():
        files = data_files(name, dataset)
        table = file_table(files[0].parent if len(files) == 1 else dataset.path or Path(), files)
        datasets[name] = {"files": table, "digest": sha256_json(table)}
    tokenizer = file_table(
        config.model.path, [p for n in TOKENIZER_FILES if (p := config.model.path / n).exists()]
    )
    if not tokenizer:
        raise Stop(f"model.path={config.model.path} holds no tokenizer: it needs a tokenizer.json")
    return {
        "config": {key: value for key, value in chosen.items() if key not in BATCHING},
        "inputs": {"datasets": datasets, "tokenizer": tokenizer},
        "toolchain": {
            "packages": packages("datasets", "numpy", "tokenizers", "transformers"),
            "code": code_digest("calibration/adapters.py", "calibration/sampling.py", "calibration/stage.py"),
        },
    }


def make(config: QuantizeConfig, described: dict[str, Any], final: Path) -> dict[str, Any]:
    """Draw, tokenize and seal the sample set at `final`; returns its manifest.

    Raises:
        Stop: when a dataset has too few usable rows.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.model.path, trust_remote_code=False)
    chosen: list[Sample] = []
    skipped = {}
    for name in config.calibration.datasets:
        found, skipped[name] = sample(config.calibration, tokenizer, name)
        chosen += found
    records = [one.record() for one in chosen]
    key = manifest.key_of("samples", **described)
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
            **described,
            "toolchain": described["toolchain"] | {"lock": lock_digest()},
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
