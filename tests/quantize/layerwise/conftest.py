"""A tiny mixture of experts whose layers are run one at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from running import WORDS, tiny

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config.schema import Model
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Block, Layer, layers_name
from proofcard.quantize.model import load, skeleton

SETTINGS = Model(
    name="tiny", repository=None, revision=None, path=None, config=None, remote_code={},
    attn_implementation="eager",
)  # fmt: skip


@pytest.fixture(scope="session")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("mixtral"), "mixtral")


@pytest.fixture(scope="session")
def whole(mixtral: Path) -> torch.nn.Module:
    """The model with all its weights."""
    loaded: torch.nn.Module = load(Source(mixtral), SETTINGS, "cpu")
    return loaded


@pytest.fixture
def stepper(mixtral: Path) -> Stepper:
    source = Source(mixtral)
    bare = skeleton(source, SETTINGS)
    return Stepper(source, bare, layers_name(bare), torch.device("cpu"))


@pytest.fixture
def loading(stepper: Stepper) -> Callable[[int], Stepper]:
    """The stepper with a layer's weights."""

    def loaded(index: int) -> Stepper:
        stepper.load(index, stepper.read(index))
        return stepper

    return loaded


def batch(samples: int = 2, tokens: int = 5) -> Batch:
    ids = np.random.default_rng(5).integers(1, WORDS, (samples, tokens))
    return Batch(ids, np.ones_like(ids))


def layer(index: int) -> Layer:
    """What the recipe `nvfp4_experts_only` quantizes of a layer of the tiny Mixtral."""
    block = f"model.layers.{index}.block_sparse_moe"
    experts = tuple(f"{block}.experts.{number}" for number in range(4))
    return Layer(
        f"model.layers.{index}",
        [f"{expert}.{linear}" for expert in experts for linear in ("w1", "w2", "w3")],
        [Block(block, experts, block)],
        [f"model.layers.{index}.self_attn"],
    )
