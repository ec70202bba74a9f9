"""The stage `samples`: from datasets and a tokenizer to a frozen, sealed sample set.

Writes `samples.jsonl` (one record per sample) and `tokens.safetensors` (`input_ids` int32 of all
samples end to end, `lengths` int64 [samples]).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from proofcard import manifest, stage
from proofcard.calibration import frozen, tokenizer
from proofcard.calibration.batches import BATCHING, INDEX, TOKENS
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.sampling import Sample, sample
from proofcard.calibration.sources import described
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json, code_digest
from proofcard.documents.manifest import Manifest
from proofcard.errors import Usage
from proofcard.fingerprint import lock_digest, packages
from proofcard.progress import console

_DECIDING = tuple(
    f"calibration/{room}.py"
    for room in ("adapters", "confined", "rendering", "sampling", "sources", "stage", "tokenizer", "uniform")
)


def describe(config: QuantizeConfig) -> dict[str, Any]:
    """What decides the sample set: configuration, inputs with their digests, toolchain. Reads the inputs."""
    assert config.model.path is not None
    chosen = config.calibration.identity()
    read_by_tokenizer = tokenizer.described(tokenizer.read_by(config.model.path))
    config_of_samples = {key: value for key, value in chosen.items() if key not in BATCHING}
    if config.calibration.frozen is not None:
        return frozen.described(config.calibration, config_of_samples, read_by_tokenizer)
    records = config.work_dir / "sources"
    datasets = {
        name: described(name, dataset, records) for name, dataset in config.calibration.datasets.items()
    }
    return {
        "config": config_of_samples,
        "inputs": {"datasets": datasets, "tokenizer": read_by_tokenizer},
        "toolchain": {
            "packages": packages("datasets", "numpy", "tokenizers", "transformers"),
            "code": code_digest(*_DECIDING),
        },
    }


def check(config: QuantizeConfig, origin: dict[str, Any]) -> None:
    """Open the tokenizer and render a greeting, as `make` will for every row. `origin` is `describe`'s.

    Raises:
        Usage: when the tokenizer cannot be opened, or its chat template cannot be used.
    """
    words = _opened(config, origin)
    if config.calibration.chat_template:
        with Renderer(words) as renderer:
            renderer.check()


def _opened(config: QuantizeConfig, origin: dict[str, Any]) -> Any:
    assert config.model.path is not None
    words = tokenizer.opened(config.model.path, config.model.remote_code, origin["inputs"]["tokenizer"])
    if config.calibration.chat_template and not words.chat_template:
        raise Usage(f"{config.model.path} has no chat template: set calibration.chat_template=false")
    return words


def place(config: QuantizeConfig, key: str) -> Path:
    """Where the sample set of this key stands."""
    return config.work_dir / "samples" / f"{config.recipe.name}-{key[:12]}"


def make(config: QuantizeConfig, origin: dict[str, Any], final: Path) -> Manifest:
    """Draw, tokenize and seal the sample set at `final`, or copy a frozen one there; returns its manifest.

    `origin` is what `describe` has said. A set that another process is drawing is waited for and taken.

    Raises:
        Usage: when the tokenizer or its chat template cannot be used.
        Stop: when a dataset has too few usable rows.
    """
    if config.calibration.frozen is not None:
        return frozen.copied(config.calibration.frozen, final)
    key = manifest.key_of("samples", **origin)
    return stage.once(final, key, lambda partial: _draw(config, origin, key, partial, final))


def _draw(config: QuantizeConfig, origin: dict[str, Any], key: str, partial: Path, final: Path) -> Manifest:
    words = _opened(config, origin)
    chosen: list[Sample] = []
    skipped = {}
    for name in config.calibration.datasets:
        found, skipped[name] = sample(config.calibration, words, name)
        chosen += found
        if skipped[name]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped[name].items())
            console.print(f"{name}: rows of another shape skipped ({reasons})", soft_wrap=True)
    records = [one.record() for one in chosen]
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
