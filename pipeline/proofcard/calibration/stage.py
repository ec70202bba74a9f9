"""The stage `samples`: what is in its key, and the sealed folder around what `drawing` writes."""

from pathlib import Path
from typing import Any

from proofcard import deciding, manifest, stage
from proofcard.calibration import frozen
from proofcard.calibration.content import described
from proofcard.calibration.drawing import draw
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import file_table
from proofcard.errors import Stop
from proofcard.fingerprint import lock_digest, packages

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def describe(config: QuantizeConfig) -> dict[str, Any]:
    """What decides the sample set: configuration, inputs with their digests, toolchain. Reads the inputs."""
    assert config.model.path is not None
    tokenizer = file_table(
        config.model.path, [p for n in TOKENIZER_FILES if (p := config.model.path / n).exists()]
    )
    if not tokenizer:
        raise Stop(f"model.path={config.model.path} holds no tokenizer: it needs a tokenizer.json")
    chosen = deciding.settings(config)["samples"]
    if config.calibration.frozen is not None:
        return frozen.described(config.calibration, chosen, tokenizer)
    adapters = [dataset.adapter for dataset in config.calibration.datasets.values()]
    records = config.work_dir / "sources"
    datasets = {
        name: described(name, dataset, records) for name, dataset in config.calibration.datasets.items()
    }
    return {
        "config": chosen,
        "inputs": {"datasets": datasets, "tokenizer": tokenizer},
        "toolchain": {
            "packages": packages(*deciding.PACKAGES["samples"]),
            "code": deciding.digest(deciding.of_samples(adapters)),
        },
    }


def place(config: QuantizeConfig, key: str) -> Path:
    """Where the sample set of this key stands."""
    return config.work_dir / "samples" / f"{config.recipe.name}-{key[:12]}"


def make(config: QuantizeConfig, origin: dict[str, Any], final: Path) -> dict[str, Any]:
    """Draw, tokenize and seal the sample set at `final`, or copy a frozen one there; returns its manifest.

    `origin` is what `describe` says decides it.

    Raises:
        Stop: when a dataset has too few usable rows.
    """
    if config.calibration.frozen is not None:
        return frozen.copied(config.calibration.frozen, final)
    key = manifest.key_of("samples", **origin)
    with stage.building(final) as partial:
        statistics = draw(config, partial)
        body = {
            "stage": "samples",
            "key": key,
            **origin,
            "toolchain": origin["toolchain"] | {"lock": lock_digest()},
            "seeds": {"sampling": config.calibration.sampling.seed},
            "platform": {},
            "statistics": statistics,
        }
        return stage.seal(partial, final, body)
