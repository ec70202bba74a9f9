"""Where the result would run: the GPUs of each profile, and those of the machine at hand."""

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, Literal

import psutil
from omegaconf import OmegaConf
from pydantic import Field, ValidationError

from proofcard import gpus
from proofcard.bundle import bundled
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.writer import Entry
from proofcard.config.schema import Part, QuantizeConfig
from proofcard.disk import free_at
from proofcard.documents.plan import Claim, Fit, Machine, Tokens
from proofcard.errors import Usage
from proofcard.plan.weights import Inventory

FRACTION = 0.90  # of a GPU's memory for weights and KV cache: the card's --mem-fraction-static
_BLACKWELL = 100  # compute capability from which NVFP4 products are native: SM100, SM103, SM120, SM121
_MARLIN = 80  # from here on engines unpack NVFP4 weights into BF16 products (W4A16, Marlin)


class PublishedClaim(Part):
    """What a published card says of this hardware, and one line on where that is wrong, if it is."""

    repository: str
    weights: str
    kv_tokens: str
    context: str
    correction: str | None


class Profile(Part):
    """GPUs of one kind in one machine.

    `memory_mib` is what the driver reports for one of them; `teraflops` NVIDIA's data sheet for dense BF16.
    """

    name: str
    gpus: int = Field(ge=1)
    memory_mib: int = Field(ge=1)
    compute_capability: int
    teraflops: float | None = Field(gt=0)
    claims: tuple[PublishedClaim, ...]


def profiles() -> list[Profile]:
    """The profiles in `conf/hardware/profiles`, in the order of their files.

    Raises:
        Usage: naming the file that is no profile.
    """
    found = []
    for path in sorted(bundled("conf/hardware/profiles").glob("*.yaml")):
        try:
            found.append(Profile.model_validate(OmegaConf.to_container(OmegaConf.load(path))))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(step) for step in fault["loc"])
            raise Usage(f"{path.name} is no hardware profile: {where}: {fault['msg']}") from None
    return found


def here() -> Profile | None:
    """The GPUs of this machine, the first one's kind; None when there is none."""
    visible = gpus.machine(os.environ).gpus
    if not visible:
        return None
    return Profile(
        name=f"here: {len(visible)}× {visible[0].name}",
        gpus=len(visible),
        memory_mib=visible[0].memory_mib,
        compute_capability=visible[0].capability,
        teraflops=None,
        claims=(),
    )


def machine(folder: Path) -> Machine:
    """Cores, memory in bytes, and free bytes of the disk that `folder` is or will be on."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total,
        disk_free=free_at(folder),
    )


def kv_bytes(config: dict[str, Any], gpus: int, width: int) -> int:
    """Bytes of KV cache a token takes on each GPU; `width` bytes a value, heads split while they last."""
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    channels = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    return 2 * int(config["num_hidden_layers"]) * max(1, heads // gpus) * channels * width


def fits(profile: Profile, config: QuantizeConfig, inventory: Inventory, flop: int, evaluation: int) -> Fit:
    """Weights and KV tokens of one GPU under tensor parallelism over all of them.

    Nothing is set aside for CUDA graphs and activations beyond `FRACTION`.
    """
    weights = weights_per_gpu(inventory.entries, set(inventory.outline.weights()), profile.gpus)
    said = inventory.outline.config
    room = int(profile.memory_mib * 2**20 * FRACTION) - weights
    longest = int(said["max_position_embeddings"])
    tokens = {
        name: max(0, room // kv_bytes(said, profile.gpus, width)) for name, width in (("bf16", 2), ("fp8", 1))
    }
    rate = profile.teraflops * 1e12 * profile.gpus if profile.teraflops else None
    return Fit(
        profile=profile.name,
        gpus=profile.gpus,
        runs=runs(profile.compute_capability),
        fits=room > 0,
        weights_per_gpu=weights,
        kv_tokens=Tokens(**tokens),
        context=Tokens(**{name: min(longest, count) for name, count in tokens.items()}),
        calibration_floor_hours=None if rate is None else flop / rate / 3600,
        evaluation_floor_hours=None if rate is None else evaluation / rate / 3600,
        card=[Claim(**c.model_dump()) for c in profile.claims if c.repository == config.model.repository],
    )


def runs(compute_capability: int) -> Literal["native", "W4A16", "no"]:
    """How NVFP4 products are computed there."""
    if compute_capability >= _BLACKWELL:
        return "native"
    return "W4A16" if compute_capability >= _MARLIN else "no"


def weights_per_gpu(tensors: Iterable[Entry | Tensor], own: Container[str], gpus: int) -> int:
    """Bytes of a checkpoint's tensors on each of several GPUs.

    Matrices are split evenly, what has one dimension or none and the routers stand on every GPU. Engines
    serve in BF16 what a checkpoint holds in F32, if it is the model's `own` and no scale.
    """
    total = 0
    for tensor in tensors:
        halved = tensor.dtype == "F32" and tensor.name in own and len(tensor.shape) > 1
        size = tensor.size // 2 if halved else tensor.size
        whole = len(tensor.shape) < 2 or tensor.name.endswith(".gate.weight")
        total += size if whole else size // gpus
    return total
