"""From a manifest to the configuration that made it, with the paths of its inputs on this machine.

A manifest contains no paths. Inputs are taken from where the user says; else from where the bundled recipe
has the same model or dataset; else from the hub at the recorded commit.
"""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proofcard import manifest
from proofcard.bundle import bundled
from proofcard.calibration.batches import read_index
from proofcard.config import QuantizeConfig, ReproduceConfig, compose
from proofcard.digest import sha256_json
from proofcard.errors import Stop, Usage
from proofcard.files import plain
from proofcard.reproduce.recorded import Recorded

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_RETIRED = {("quantization", "algorithm"): "max", ("toolchain", "package"): "nvidia-modelopt"}
"""Settings of earlier versions that had one value, which is what still happens."""


def configured(recorded: Recorded, request: ReproduceConfig) -> QuantizeConfig:
    """The recorded configuration, with paths on this machine. Reads no input.

    Raises:
        Usage: when this version cannot run the manifest's configuration, it needs code that was not allowed,
            or an input has no known location.
    """
    recorded_config = recorded.body["config"]
    shipped = _shipped(recorded.recipe)
    values = _fitted(recorded_config)
    frozen = sample_set(recorded, request)
    _place_model(values, shipped, request)
    _place_datasets(values, shipped, request, frozen)
    values |= {
        "hardware": _hardware(recorded.body["platform"], request),
        "tracking": request.tracking.model_dump(),
        "work_dir": request.work_dir,
        "output_dir": request.output_dir,
    }
    try:
        config = QuantizeConfig.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(plain(step, 80) for step in fault["loc"])
        raise Usage(
            f"this version cannot run the manifest's config: {where or 'as a whole'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
        ) from None
    _check_code(config, shipped, request)
    return config


def sample_set(recorded: Recorded, request: ReproduceConfig) -> Path | None:
    """The recorded sample set if available: given, or in `work_dir` under its key.

    Raises:
        Usage: when the set that is given is not the recorded one.
    """
    wanted = recorded.body["inputs"]["samples"]
    if request.samples is None:
        return next(iter(_sets(request.work_dir / "samples", wanted["key"])), None)
    if sha256_json(manifest.read(request.samples).outputs.values()) != wanted["digest"]:
        raise Usage(
            f"samples={request.samples} is not the recorded sample set, whose content has the digest "
            f"{wanted['digest'][:16]}…: pass that one, or omit samples to draw it again"
        )
    return request.samples


def _sets(folder: Path, key: str) -> list[Path]:
    """Sealed sample sets of this key below a folder of them."""
    sets = []
    for path in sorted(folder.glob(f"*-{key[:12]}")) if folder.is_dir() else []:
        try:
            if manifest.read(path).key == key:
                sets.append(path)
        except Stop:
            continue
    return sets


def _shipped(recipe: str | None) -> QuantizeConfig | None:
    """The bundled recipe of that name, if there is one that composes by itself."""
    known = {path.stem for path in bundled("conf/recipe").glob("*.yaml")}
    if recipe not in known:
        return None
    try:
        return compose(QuantizeConfig, "config", [f"recipe={recipe}", "tracking=off"])
    except Usage:  # for example a recipe whose paths the user must set
        return None


def _fitted(recorded: dict[str, Any]) -> dict[str, Any]:
    """The recorded settings, with those added since, and without those removed since."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in recorded.items()}
    for (group, name), only in _RETIRED.items():
        part = values.get(group)
        if isinstance(part, dict) and part.get(name) == only:
            del part[name]
    for name in ("model", "calibration"):
        if not isinstance(values.get(name), dict):
            raise Usage(f"the manifest's config has no {name}: nothing can be rebuilt from it")
    defaults = compose(QuantizeConfig, "config", ["tracking=off"])
    return {"ulp_bound": defaults.ulp_bound} | values


def _place_model(values: dict[str, Any], shipped: QuantizeConfig | None, request: ReproduceConfig) -> None:
    model = values["model"]
    path = request.source
    if path is None and shipped is not None and shipped.model.identity() == model:
        path = shipped.model.path
    model |= {"path": path, "config": None}
    if path is None and not _on_hub(model):
        raise Usage(
            f"the manifest does not say where its model {plain(model.get('name', ''), 80)!r} is from: set "
            "source=DIR to its folder"
        )


def _place_datasets(
    values: dict[str, Any], shipped: QuantizeConfig | None, request: ReproduceConfig, frozen: Path | None
) -> None:
    datasets = values["calibration"].get("datasets")
    if not isinstance(datasets, dict) or not all(isinstance(one, dict) for one in datasets.values()):
        raise Usage("the manifest's config names no datasets: nothing can be rebuilt from it")
    if unknown := sorted(request.datasets.keys() - datasets.keys()):
        raise Usage(
            f"datasets.{unknown[0]} is not in the manifest, which has {', '.join(map(plain, datasets))}"
        )
    ours = shipped.calibration.datasets if shipped is not None else {}
    placed = {}
    for name, dataset in datasets.items():
        path = request.datasets.get(name)
        if path is None and name in ours and _same_rows(ours[name].identity(), dataset):
            path = ours[name].path
        if path is None and frozen is None and not _on_hub(dataset):
            raise Usage(
                f"the manifest does not say where its dataset {plain(name, 80)!r} is from: pass a copy with "
                f"datasets.{plain(name, 80)}=FILE, or the recorded sample set with samples=DIR"
            )
        placed[name] = dataset | {"path": path}
    placed = {name: placed[name] for name in _order(values["calibration"], list(placed), shipped, frozen)}
    values["calibration"] |= {"datasets": placed, "frozen": frozen, "frozen_sha256": None}


def _order(
    calibration: dict[str, Any], names: list[str], shipped: QuantizeConfig | None, frozen: Path | None
) -> list[str]:
    """The datasets in the order in which samples come: a manifest's JSON objects are sorted by name.

    Manifests of earlier versions do not name it: it is then that of the sample set or of the bundled recipe.
    """
    order = calibration.pop("order", None)
    if order is None and frozen is not None:
        order = list(dict.fromkeys(record.get("dataset") for record in read_index(frozen)))
    if order is None and shipped is not None:
        order = [name for name in shipped.calibration.datasets if name in names]
    if order is None and len(names) == 1:
        return names
    known = isinstance(order, list) and all(isinstance(name, str) for name in order)
    if not known or sorted(order) != sorted(names):
        raise Usage(
            "the manifest does not say in which order its datasets were drawn: pass the recorded sample set "
            "with samples=DIR"
        )
    return order


def _same_rows(ours: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Whether two datasets are the same rows, however many samples of them are taken."""
    return ours | {"samples": None} == recorded | {"samples": None}


def _on_hub(part: dict[str, Any]) -> bool:
    """Whether the part names a repository and a commit on the hub, and no local folder."""
    repository, revision = part.get("repository"), part.get("revision")
    if not isinstance(repository, str) or not isinstance(revision, str):
        return False
    return _HUB_NAME.fullmatch(repository) is not None and not Path(repository).exists()


def _check_code(config: QuantizeConfig, shipped: QuantizeConfig | None, request: ReproduceConfig) -> None:
    """Check code against the allowed digests; a manifest's own pins allow nothing: its author chose them."""
    allowed = set(request.remote_code)
    if shipped is not None:
        allowed |= set(shipped.model.remote_code.values())
    for name, digest in sorted(config.model.remote_code.items()):
        if digest not in allowed:
            raise Usage(
                f"the manifest needs to run {plain(name, 80)} of the model (sha256 {digest}): read it, "
                f"and allow it with remote_code=[{digest}]"
            )


def _hardware(platform: dict[str, Any], request: ReproduceConfig) -> dict[str, Any]:
    """Device and threads as requested, else as recorded if this machine has them."""
    import torch

    device = request.device
    if device is None:
        device = "cuda" if platform.get("device") == "cuda" and torch.cuda.is_available() else "cpu"
    threads = request.threads
    if threads is None:
        recorded, cores = platform.get("threads"), len(os.sched_getaffinity(0))
        threads = recorded if isinstance(recorded, int) and 0 < recorded <= cores else 0
    return {
        "device": device, "threads": threads, "activation_memory_gib": request.activation_memory_gib,
    }  # fmt: skip
