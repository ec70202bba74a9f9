"""The checkpoint that a recipe leads to: its key, its folder and its source, as far as they are known."""

from dataclasses import dataclass
from pathlib import Path

from proofcard import manifest
from proofcard.calibration import sample_set as samples_stage
from proofcard.checkpoint.download import folder_of
from proofcard.checkpoint.opening import opened
from proofcard.checkpoint.repository import pinned
from proofcard.config import QuantizeConfig
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage
from proofcard.quantize import checkpoint_stage as quantize_stage
from proofcard.toolchain import materialise


@dataclass(frozen=True)
class Target:
    """`key` is null until all that decides it is on this machine. `sealed` is what is in the folder."""

    source: Path
    folder: Path
    key: str | None
    sealed: Manifest | None


NOWHERE = Target(Path(), Path(), None, None)
"""For stages that need none."""


def needs_fetch(config: QuantizeConfig) -> bool:
    """Whether a part of the recipe is on the hub."""
    datasets = config.calibration.datasets.values()
    remote = any(dataset.path is None and "/" in dataset.repository for dataset in datasets)
    return config.model.path is None or (remote and config.calibration.frozen is None)


def expected(config: QuantizeConfig) -> Target:
    """The target before any work. Without a key where something of it is still on the hub.

    Raises:
        Usage: when the source or a dataset cannot be used.
    """
    fetched = config.work_dir / "fetched" / f"{config.recipe.name}.json"
    if not needs_fetch(config) or fetched.exists():
        return known(config)
    source = config.model.path
    if source is None:
        if config.model.repository is None:
            raise Usage("model.path is not set: give model.repository and model.revision, or a local folder")
        repository = pinned(config.model.repository, config.model.revision)
        source = folder_of(repository, config.work_dir / "sources")
    return Target(source, _folder(config, None), None, None)


def known(config: QuantizeConfig) -> Target:
    """The target once everything is here: the key as `quantize` computes it.

    Raises:
        Usage: when the source or a dataset cannot be used, or the folder is another checkpoint's.
    """
    source = opened(config.model, config.work_dir, streamed=True)
    model = config.model.model_copy(update={"path": source.path})
    config = config.model_copy(update={"model": model})
    tools = materialise(config.toolchain.series, config.work_dir / "toolchains")
    samples = manifest.key_of("samples", **samples_stage.describe(config))
    key = manifest.key_of("quantize", **quantize_stage.describe(config, source, samples, tools))
    folder = _folder(config, key)
    return Target(source.path, folder, key, _sealed(folder, key))


def _folder(config: QuantizeConfig, key: str | None) -> Path:
    default = config.work_dir / "checkpoints" / f"{config.recipe.name}-{key[:12] if key else 'KEY'}"
    return config.output_dir or default


def _sealed(folder: Path, key: str) -> Manifest | None:
    """The manifest in the folder, if it has the key."""
    try:
        found = manifest.read(folder)
    except (Stop, OSError):
        return None  # nothing, or something that `quantize` will refuse
    return found if found.key == key else None
