"""Declares what decides bytes: the modules, packages and settings that go into each stage's key.

A key is the digest of what decides a sealed folder's content: settings, inputs, packages, and the modules
listed here by their syntax trees (`syntax`), so that comments, docstrings and messages may change freely.
The numeric platform is not part of any key: a manifest records it.

Everything in a sealed folder counts, including the calibration tables, except manifest.json, which
describes the rest. What only displays a result (plots, metrics, progress), transfers what is checked by
digest (downloads), or manages work (locks, records for resuming) does not count and is not listed.

A module listed here imports only modules listed for its stage and the `SERVICES`, or a test fails. Settings
work the other way round: everything in a configuration counts except `NOT_DECIDING`.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from proofcard import syntax
from proofcard.digest import sha256_json

_PACKAGE = Path(__file__).resolve().parent
_ADAPTERS = "calibration.adapters"

_NUMBER_FORMAT = (
    "nvfp4",
    "nvfp4.bits",
    "nvfp4.checks",
    "nvfp4.compiled",
    "nvfp4.fp8",
    "nvfp4.packing",
    "nvfp4.plain",
    "nvfp4.scales",
    "nvfp4.unpacking",
)
_READING = (  # the source's weights, as the model uses them
    "checkpoint.carried",  # which files count, and what changes in config.json
    "checkpoint.configuration",
    "checkpoint.floats",
    "checkpoint.fp8",
    "checkpoint.reading",
    "checkpoint.shards",  # which files hold the weights
    "checkpoint.source",
    "checkpoint.tensors",
)

SAMPLES = (
    "calibration.drawing",  # datasets and tokenizer to the two files
    "calibration.sampling",  # which rows, the chat template, tokens, truncation
    "calibration.uniform",
    "calibration.sources",  # which files make up a split, and in which order rows come
    "calibration.allowed_files",  # which files a dataset may name
    "calibration.rendering",
    "calibration.tokenizer",
    "calibration.rows",  # what adapters share
    _ADAPTERS,
    "calibration.sample_files",
)
"""Modules of every sample set; `of_samples` adds the adapters of its datasets."""

_QUANTIZE = (
    *_NUMBER_FORMAT,
    *_READING,
    "calibration.batches",  # samples to batches: order, padding, mask
    "calibration.sample_files",
    "calibration.tokenizer",  # what pads
    "checkpoint.writer",  # the files' layout
    "determinism",
    "ranks",  # shares and reductions
    "quantize.fit",  # which tensors the model takes
    "quantize.mtp",  # MTP heads, which no pinned class has
    "quantize.preparing",
    "quantize.model_config",
    "quantize.spelling",  # config.json with the pinned transformers' key names
    "quantize.model",  # dtypes, attention implementation, what is tied
    "quantize.quantizers",  # which of ModelOpt's quantizers, and how they calibrate
)
_ENGINES = {
    "layerwise": (
        "nvfp4.gpu",
        "quantize.layerwise.adding_kernel",
        "quantize.layerwise.calibrate",
        "quantize.layerwise.crew",
        "quantize.layerwise.excerpts",
        "quantize.layerwise.experts",
        "quantize.layerwise.gated",
        "quantize.layerwise.hidden",
        "quantize.layerwise.hooks",
        "quantize.layerwise.intake",
        "quantize.layerwise.observer",
        "quantize.layerwise.pack",
        "quantize.layerwise.probe",
        "quantize.layerwise.raised",
        "quantize.layerwise.replay",
        "quantize.layerwise.routed",
        "quantize.layerwise.run",
        "quantize.layerwise.screen",
        "quantize.layerwise.screen_answer",
        "quantize.layerwise.screen_codes",
        "quantize.layerwise.screen_kernels",
        "quantize.layerwise.sharing",
        "quantize.layerwise.stacked",
        "quantize.layerwise.stepper",
        "quantize.layerwise.stretches",
        "quantize.layerwise.structure",
        "quantize.layerwise.tensors",
        "quantize.layerwise.traffic",
        "quantize.layerwise.ways",
        "quantize.statistics",  # what the sealed tables hold
        "quantize.tables",
    ),
    "modelopt": ("quantize.modelopt",),
}

_DIALECTS = (  # how other makers store a linear in NVFP4, and under which names
    "checkpoint.dialects.layouts",
    "checkpoint.dialects.loops",
    "checkpoint.dialects.naming",
    "checkpoint.dialects.plain",
    "checkpoint.dialects.rules",
    "checkpoint.dialects.view",
)

DEQUANTIZE = (
    *_NUMBER_FORMAT,
    *_READING,
    *_DIALECTS,
    "checkpoint.roles",  # which tensors are scales
    "checkpoint.writer",
    "serve.bf16_copy",
    "serve.layouts",
)

EVALUATE = (
    *_NUMBER_FORMAT,
    *_READING,
    *_DIALECTS,
    "calibration.batches",  # what a text is to a model
    "calibration.sample_files",
    "checkpoint.roles",
    "checkpoint.writer",
    "determinism",
    "documents.base",
    "documents.evaluation",
    "evaluate.apart",
    "evaluate.candidates",
    "evaluate.compute",
    "evaluate.divergence",
    "evaluate.experts",
    "evaluate.files",
    "evaluate.intake",
    "evaluate.intervals",
    "evaluate.layer_sums",
    "evaluate.numbers",
    "evaluate.passes",
    "evaluate.rounding",
    "evaluate.routing",
    "evaluate.run",
    "evaluate.streams",
    "evaluate.text_set",
    "evaluate.weights",
    "nvfp4.gpu",
    "quantize.fit",
    "quantize.layerwise.hidden",
    "quantize.layerwise.hooks",
    "quantize.layerwise.intake",
    "quantize.layerwise.stepper",
    "quantize.layerwise.structure",
    "quantize.model",
    "quantize.quantizers",
    "quantize.model_config",
    "quantize.spelling",
    "ranks",
    "serve.layouts",
)

PACKAGES = {
    "samples": ("datasets", "jinja2", "numpy", "tokenizers", "transformers"),
    "quantize": ("accelerate", "numba", "numpy", "safetensors", "tokenizers", "torch", "transformers"),
    "dequantize": ("numba", "numpy"),
    "evaluate": ("accelerate", "numba", "numpy", "safetensors", "scipy", "torch", "transformers"),
}
"""Packages whose versions are in a stage's key; ModelOpt's is with its patches."""

SERVICES = {
    "calibration.private_cache": "keeps `datasets`' cache private",
    "calibration.dataset_files": "downloads a dataset's files; their digests at a commit are in the key",
    "checkpoint.counts": "refuses counts that no tensor bears out",
    "checkpoint.remote_code": "opens pinned files from a private copy; their digests are in the key",
    "checkpoint.download": "hands out a file only once its digest is the one in the key",
    "config.evaluating": "as config.schema",
    "config.schema": "holds the settings; each one that decides is in the key by its value",
    "cores": "how many threads may work; they change no byte",
    "digest": "digests and canonical JSON, which published formats fix",
    "disk": "forces what is written to disk; changes none of it",
    "evaluate.pair": "refuses a checkpoint that was not made from the source",
    "documents": "names the classes of documents in one place",
    "errors": "exceptions with sentences for people",
    "files": "refuses links, special files and files too large; reads the others as they are",
    "hub": "asks a busy hub again, and says what went wrong",
    "json_files": "refuses JSON beyond its limits; reads the other as the json module does",
    "nvfp4.kept": "keeps compiled loops; each is named by the code, packages and CPU that it follows from",
    "progress": "shows how far the work is",
    "quantize.config_keys": "refuses keys of config.json that no class reads",
    "quantize.layerwise.resume": "which layers are complete; tests hold a resumed run's bytes to another's",
}
"""What deciding modules may import in addition, each with the reason why it decides nothing."""

NOT_DECIDING = {
    "recipe": "a name and a sentence for people",
    "model.name": "a name for people",
    "model.repository": "where the source is from; the digests of its files are in the key",
    "model.revision": "as model.repository",
    "model.path": "as model.repository",
    "model.config": "for plan alone",
    "model.remote_code": "what may run; the digests of the source's files are in the key",
    "calibration.datasets.*.path": "where a copy is; the digests of its files are in the key",
    "calibration.frozen": "a set that was drawn before: its own record of what decided it is in the key",
    "calibration.frozen_sha256": "as calibration.frozen",
    "toolchain": "the digests of the patched files are in the key",
    "hardware": "the numeric platform: device and threads are recorded in the manifest",
    "tracking": "where a run is logged",
    "ulp_bound": "what a comparison with another numeric platform allows",
    "work_dir": "where work is done",
    "output_dir": "where the result goes",
}
"""Settings that are not part of any key, each with the reason; `*` is any name. All others are."""

_BATCHING = ("batch_size", "padding_side", "pad_to", "attention_mask")  # of calibration, but not for samples


def adapters() -> list[str]:
    """Names of the dataset adapters: the modules of `calibration.adapters`."""
    folder = _PACKAGE.joinpath(*_ADAPTERS.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def of_samples(adapters: Iterable[str]) -> tuple[str, ...]:
    """The modules that decide a sample set of datasets with these adapters."""
    return (*SAMPLES, *(f"{_ADAPTERS}.{name}" for name in sorted(set(adapters))))


def of_quantize(engine: str) -> tuple[str, ...]:
    """The modules that decide what an engine makes."""
    return _QUANTIZE + _ENGINES[engine]


def digest(modules: Iterable[str], package: Path = _PACKAGE) -> str:
    """Digest of modules of the package, by their names and what they do."""
    sources = {name: path_of(name, package).read_text(encoding="utf-8") for name in modules}
    return together({name: _digest(source) for name, source in sources.items()})


def together(digests: dict[str, str]) -> str:
    """The digest of modules, from each one's own (`syntax.digest`)."""
    return sha256_json(digests)


def path_of(module: str, package: Path = _PACKAGE) -> Path:
    """The file of a module, named without `proofcard.`"""
    path = package.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


_digest = cache(syntax.digest)


def settings(config: BaseModel) -> dict[str, dict[str, Any]]:
    """The settings in each stage's key, `samples` and `quantize`: everything but `NOT_DECIDING`."""
    deciding = _without(config.model_dump(mode="json"), [tuple(path.split(".")) for path in NOT_DECIDING])
    samples = deciding.pop("calibration")
    samples["order"] = list(
        samples["datasets"]
    )  # a key's canonical JSON sorts the names; samples come in order
    batching = {name: samples.pop(name) for name in _BATCHING}
    return {"samples": samples, "quantize": deciding | {"batching": batching}}


def _without(values: dict[str, Any], paths: list[tuple[str, ...]]) -> dict[str, Any]:
    """Nested values without those at the paths."""
    kept = {}
    for key, value in values.items():
        below = [path[1:] for path in paths if path[0] in (key, "*")]
        if () in below:
            continue
        if below and isinstance(value, dict):
            value = _without(value, below)
        kept[key] = value
    return kept
