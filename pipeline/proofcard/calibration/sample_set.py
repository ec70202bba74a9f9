"""The stage `samples`: what is in its key, and the sealed folder around what `drawing` writes."""

from pathlib import Path
from typing import Any

from proofcard import deciding, manifest, stage
from proofcard.calibration import frozen, tokenizer
from proofcard.calibration.drawing import draw, opened
from proofcard.calibration.identity import described
from proofcard.calibration.rendering import Renderer
from proofcard.config.schema import QuantizeConfig
from proofcard.documents.manifest import Manifest
from proofcard.fingerprint import lock_digest, packages


def describe(config: QuantizeConfig) -> dict[str, Any]:
    """What decides the sample set: configuration, inputs with their digests, toolchain. Reads the inputs."""
    assert config.model.path is not None
    read_by_tokenizer = tokenizer.described(tokenizer.read_by(config.model.path))
    chosen = deciding.settings(config)["samples"]
    if config.calibration.frozen is not None:
        return frozen.described(config.calibration, chosen, read_by_tokenizer)
    adapters = [dataset.adapter for dataset in config.calibration.datasets.values()]
    records = config.work_dir / "sources"
    datasets = {
        name: described(name, dataset, records) for name, dataset in config.calibration.datasets.items()
    }
    return {
        "config": chosen,
        "inputs": {"datasets": datasets, "tokenizer": read_by_tokenizer},
        "toolchain": {
            "packages": packages(*deciding.PACKAGES["samples"]),
            "code": deciding.digest(deciding.of_samples(adapters)),
        },
    }


def check(config: QuantizeConfig, origin: dict[str, Any]) -> None:
    """Open the tokenizer and render a greeting, as `make` will for every row. `origin` is `describe`'s.

    Raises:
        Usage: when the tokenizer cannot be opened, or its chat template cannot be used.
    """
    words = opened(config, origin["inputs"]["tokenizer"])
    if config.calibration.chat_template:
        with Renderer(words) as renderer:
            renderer.check()


def place(config: QuantizeConfig, key: str) -> Path:
    """Where the sample set of this key is kept."""
    return config.work_dir / "samples" / f"{config.recipe.name}-{key[:12]}"


def make(config: QuantizeConfig, origin: dict[str, Any], final: Path) -> Manifest:
    """Draw, tokenize and seal the sample set at `final`, or copy a frozen one there; returns its manifest.

    `origin` is what `describe` returned. A set that another process is drawing is waited for and taken.

    Raises:
        Usage: when the tokenizer or its chat template cannot be used.
        Stop: when a dataset has too few usable rows.
    """
    if config.calibration.frozen is not None:
        return frozen.copied(config.calibration.frozen, final)
    key = manifest.key_of("samples", **origin)

    def build(partial: Path) -> Manifest:
        statistics = draw(config, origin["inputs"]["tokenizer"], partial)
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

    return stage.once(final, key, build)
