"""A checkpoint reconstructed from its config.json: names, dtypes and shapes of tensors, without data."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from proofcard.bundle import bundled
from proofcard.checkpoint import fp8, remote_code, ties
from proofcard.checkpoint.configuration import read_settings
from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.shards import has_weights
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.checkpoint.writer import Entry
from proofcard.config.schema import Model, QuantizeConfig
from proofcard.errors import Stop, Usage
from proofcard.files import check_handed
from proofcard.quantize import model_config

_NEEDED = (
    "architectures", "hidden_size", "max_position_embeddings", "model_type", "num_attention_heads",
    "num_hidden_layers", "vocab_size",
)  # fmt: skip
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_STAND_IN = "minimax_m2_demo"  # our model whose code replaces remote code that is not available


class Outline(Source):
    """A source with headers only."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config, self._download, self._dtypes = path, config, None, {}
        self.tensors: dict[str, Tensor] = {}
        self.mtp_tensors: tuple[str, ...] = ()
        self.block = fp8.block_size(config, path)

    def add(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Add a tensor of the source."""
        self.tensors[name] = Tensor(name, self.path, dtype, shape, 0, Entry(name, dtype, shape).size)


@dataclass(frozen=True)
class Described:
    """A config.json, its origin, and its differences from the bundled one if both exist."""

    config: dict[str, Any]
    file: Path
    differences: tuple[str, ...]


def describe(model: Model) -> Described:
    """The model's config.json: that of `model.path`, otherwise the bundled one.

    Raises:
        Usage: when there is none, it is not JSON, or a required key is missing.
    """
    if model.path is None and model.config is None:
        raise Usage("neither model.path nor model.config is set: set one to a folder with a config.json")
    file = model.path / "config.json" if model.path is not None else model.config
    assert file is not None
    try:
        if model.path is not None:
            check_handed(model.path)
        config = _read(file)
        model_config.check_parts(config, str(file))
        check_counts(config, file.parent, _headers(model.path).values() or None)
        fp8.block_size(config, file.parent)
    except FileNotFoundError:
        raise Usage(f"model.path={model.path} does not exist") from None
    except Stop as error:
        raise Usage(str(error)) from None
    needed = list(_NEEDED)
    if any(key in config for key in _EXPERTS):
        needed.append("num_experts_per_tok")
    if missing := [key for key in needed if key not in config]:
        raise Usage(f"{file} has no {', '.join(missing)}: use the model's complete, original config.json")
    differences: tuple[str, ...] = ()
    if model.path is not None and model.config is not None:
        bundled_config = _read(model.config)
        keys = sorted(
            key for key in config.keys() & bundled_config.keys() if config[key] != bundled_config[key]
        )
        differences = tuple(
            f"{key} is {config[key]} here, but {bundled_config[key]} in the bundled config.json"
            for key in keys
        )
    return Described(config, file, differences)


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_settings(file.parent, file.name)
    except FileNotFoundError:
        raise Usage(f"{file} cannot be read: use a folder with the model's config.json") from None
    except Stop as error:
        raise Usage(str(error)) from None


@contextmanager
def outlined(
    config: QuantizeConfig, described: Described, tick: Callable[[], None] = lambda: None
) -> Iterator[tuple[Outline, Any]]:
    """The outline of the source and its model on the meta device, FP8 linears as transformers loads them.

    Raises:
        Stop: when the model's code is neither available nor known, or its digest is not the pinned one.
    """
    from proofcard.quantize import dry_run
    from proofcard.quantize.model import bare

    with TemporaryDirectory(prefix="plan-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(described.config), encoding="utf-8")
        pinned = _bring_code(config.model, described, folder)
        outline = Outline(folder, described.config)
        model = bare(outline, config.model.model_copy(update={"remote_code": pinned}))
        tick()
        dry_run.check(model, str(described.file))
        real = _downloaded(config.model, model)
        tick()
        eight_bits = _as_loaded(model, described.config)
        tick()
        _fill(outline, model, eight_bits, real)
        tick()
        yield outline, model


def _bring_code(model: Model, described: Described, folder: Path) -> dict[str, str]:
    """Copy the code that the model needs next to its config.json; returns the digests to check."""
    code = remote_code.read(folder)
    if not code.of_model():
        return {}
    with_origin = replace(code, folder=described.file.parent)
    if with_origin.files:
        for name, content in with_origin.pinned(model.remote_code, "model.remote_code").items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return model.remote_code
    stand_in = OmegaConf.load(bundled(f"conf/model/{_STAND_IN}.yaml"))
    from_here = bundled("demo/model")
    if described.config["model_type"] != _read(from_here / "config.json")["model_type"]:
        raise Stop(
            f"{described.file} needs remote code that is missing: set model.path to a folder with it, "
            "and pin it under model.remote_code"
        )
    pins: dict[str, str] = {str(name): str(digest) for name, digest in stand_in.remote_code.items()}
    for file_name in pins:
        shutil.copyfile(from_here / file_name, folder / file_name)
    return pins


def _as_loaded(model: Any, config: dict[str, Any]) -> set[str]:
    """Give the model the FP8 linears that transformers creates for an FP8 checkpoint."""
    from transformers.integrations import finegrained_fp8
    from transformers.utils.quantization_config import FineGrainedFP8Config

    quantization = config.get("quantization_config") or {}
    if not quantization:
        return set()
    if quantization.get("quant_method") != "fp8":
        raise Stop(
            f"the model is already quantized ({quantization.get('quant_method')}): use an FP8 or BF16 source"
        )
    settings = FineGrainedFP8Config(
        weight_block_size=tuple(quantization.get("weight_block_size") or (128, 128)),
        modules_to_not_convert=quantization.get("modules_to_not_convert"),
    )
    with _one_made_of_each_shape(finegrained_fp8):
        finegrained_fp8.replace_with_fp8_linear(model, quantization_config=settings)
    return {name for name, module in model.named_modules() if isinstance(module, finegrained_fp8.FP8Linear)}


@contextmanager
def _one_made_of_each_shape(library: Any) -> Iterator[None]:
    """Let transformers make one FP8 linear of each shape, which takes it a while, and copy the others."""
    import torch
    from transformers.modeling_utils import no_init_weights

    kind, on_meta = library.FP8Linear, library.init_empty_weights
    made: dict[tuple[Any, ...], Any] = {}

    def empty(like: Any) -> Any:  # torch.empty_like takes ten times as long here
        return torch.empty(like.shape, dtype=like.dtype, device="meta")

    def linear(**settings: Any) -> Any:
        key = tuple(settings.values())
        if key not in made:
            library.FP8Linear = kind  # its constructor looks for itself there
            with no_init_weights(), torch.device("meta"), on_meta():
                made[key] = kind(**settings)
            library.FP8Linear = linear
        first = made[key].__dict__
        own = {name: each.copy() if isinstance(each, dict | set) else each for name, each in first.items()}
        own["_parameters"] = {
            name: value if value is None else torch.nn.Parameter(empty(value), requires_grad=False)
            for name, value in first["_parameters"].items()
        }
        another = kind.__new__(kind)
        another.__dict__.update(own)
        return another

    library.FP8Linear, library.init_empty_weights = linear, nullcontext
    try:
        yield
    finally:
        library.FP8Linear, library.init_empty_weights = kind, on_meta


def _downloaded(model: Model, built: Any) -> Source | None:
    """The checkpoint itself, if it is local.

    Raises:
        Stop: when it does not match the model, with the message of `quantize`.
    """
    from proofcard.quantize import fit, preflight

    if model.path is None or not has_weights(model.path):
        return None
    source = Source(model.path)
    preflight.check_files(source)
    ties.check(source)
    fit.check(source, built)
    return source


def _headers(path: Path | None) -> dict[str, Tensor]:
    """The tensors in the files of a downloaded checkpoint, if there are any."""
    return read_folder(path) if path is not None and has_weights(path) else {}


def _fill(outline: Outline, model: Any, eight_bits: set[str], real: Source | None) -> None:
    """The tensors of the source, with dtypes from downloaded files, otherwise from the code."""
    from proofcard.quantize import fit
    from proofcard.quantize.layerwise.structure import dtype_name

    left_out = fit.tied(model)
    stored = real.tensors if real is not None else {}
    for name, value in model.state_dict().items():
        if name in left_out:
            continue
        dtype = "F8_E4M3" if name.removesuffix(".weight") in eight_bits else dtype_name(value.dtype)
        outline.add(name, stored[name].dtype if name in stored else dtype, tuple(value.shape))
    if real is not None:
        outline.mtp_tensors = tuple(
            name for name in fit.mtp_tensors(real, model) if name not in outline.tensors
        )
        for name in outline.mtp_tensors:
            outline.add(name, stored[name].dtype, stored[name].shape)
        outline.set_dtypes(fit.model_dtypes(outline, model))


def drop_scales(model: Any) -> None:
    """Remove the FP8 scales from the model: ModelOpt's export does not write them."""
    for module in model.modules():
        if "weight" + SCALE_SUFFIX in module._parameters:
            del module._parameters["weight" + SCALE_SUFFIX]
