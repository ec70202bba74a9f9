"""What ModelOpt would quantize and export, according to ModelOpt itself on the model without weights."""

import gc
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatch, translate
from math import prod
from typing import Any

from proofcard.checkpoint.roles import role
from proofcard.checkpoint.writer import Entry, layout
from proofcard.config.schema import QuantizeConfig
from proofcard.documents.plan import ExportGroup, Glob, Modules
from proofcard.plan import alike, portions
from proofcard.plan.outline import Described, Outline, drop_scales, outlined


@dataclass(frozen=True)
class Inventory:
    """Everything counted. `groups` are tensors of one role and dtype; `kinds` modules of one name but for
    their numbers; `globs` the patterns of ModelOpt's configuration; `file_bytes` that of every shard.
    """

    outline: Outline
    entries: tuple[Entry, ...]
    inserted: int
    enabled: int
    expected: int
    dequantized_first: int
    kinds: tuple[Modules, ...]
    globs: tuple[Glob, ...]
    file_bytes: dict[str, int]
    experts: int

    @property
    def parameters(self) -> int:
        """Number of values in the source's weights, without scales."""
        return sum(prod(self.outline.tensors[name].shape) for name in self.outline.weights())

    @property
    def groups(self) -> list[ExportGroup]:
        """Tensors and bytes of the export by role and dtype, the largest first."""
        tensors: Counter[tuple[str, str]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        for entry in self.entries:
            key = (role(entry.name), entry.dtype)
            tensors[key] += 1
            sizes[key] += entry.size
        return [
            ExportGroup(role=key[0], dtype=key[1], tensors=tensors[key], bytes=size)
            for key, size in sizes.most_common()
        ]


STEPS = 7
"""How often `take` calls `tick`."""


def take(config: QuantizeConfig, described: Described, tick: Callable[[], None] = lambda: None) -> Inventory:
    """Insert ModelOpt's quantizers on the meta device and count everything.

    Layers of one kind are looked at once; `tick` is called after each step, for a progress bar.

    Raises:
        Stop: when the format selects nothing, skips an expert projection, or has no KV quantizer.
    """
    from proofcard.quantize import mtp
    from proofcard.quantize.layerwise.structure import layers_name
    from proofcard.quantize.quantizers import check_reached, check_selected, modelopt_config

    with redirect_stdout(io.StringIO()):
        patterns = modelopt_config(config)["quant_cfg"]
    tick()
    with _uncollected(), outlined(config, described, tick) as (outline, model):
        expected, plain = _expected(model)
        prefix = layers_name(model)
        portions_done = _looked(config, outline, model, prefix, patterns)
    tick()
    merged = {
        what: list(portions.in_order([portion[what] for portion in portions_done], prefix))
        for what in alike.LISTS
    }
    quantizers = dict(merged["quantizers"])
    linears = dict(merged["linears"])
    selected = {name for (name,) in merged["selected"]}
    check_selected(selected)
    check_reached(linears, selected, [name for (name,) in merged["attentions"]], config.kv_cache.format)
    globs = _globs(patterns, quantizers)
    entries = [Entry(name, dtype, tuple(shape)) for name, dtype, shape in merged["entries"]]
    heads = mtp.entries(outline, list(outline.mtp_tensors))
    outside = portions_done[0]["outside"]
    total = outside + sum(portion["parameters"] - outside for portion in portions_done)
    tick()
    return Inventory(
        outline=outline,
        entries=(*entries, *heads),
        inserted=len(quantizers),
        enabled=sum(quantizers.values()),
        expected=expected,
        dequantized_first=plain,
        kinds=tuple(_kinds(linears, selected, globs)),
        globs=tuple(globs),
        file_bytes=layout(entries, total).sizes | mtp.sizes(heads),
        experts=max(portion["experts"] for portion in portions_done),
    )


def _looked(
    config: QuantizeConfig, outline: Outline, model: Any, prefix: str, patterns: dict[str, Any]
) -> list[portions.Portion]:
    """What ModelOpt does with each layer, in order; where there are few kinds, from one layer of each."""

    def look(layers: Sequence[int]) -> portions.Portion:
        return _look(config, outline, model, layers)

    decoder = model.get_submodule(prefix)
    first = alike.first_alike(decoder, prefix, outline, patterns)
    kinds = sorted(set(first))
    if len(kinds) > alike.MOST or len(kinds) == len(first):
        return portions.each(portions.shares(len(decoder), sum(1 for _ in model.modules())), look)
    found = dict(zip(kinds, portions.each([range(kind, kind + 1) for kind in kinds], look), strict=True))
    return [alike.for_layer(found[kind], prefix, kind, layer) for layer, kind in enumerate(first)]


def _look(config: QuantizeConfig, outline: Outline, model: Any, layers: Sequence[int]) -> portions.Portion:
    """Insert ModelOpt's quantizers into some layers and everything outside layers; return the result.

    Changes the model. Raises as `take`.
    """
    import torch
    from modelopt.torch.quantization.nn import TensorQuantizer

    from proofcard.quantize.layerwise.structure import Structure, layers_name

    prefix = layers_name(model)
    decoder = model.get_submodule(prefix)
    for index in set(range(len(decoder))) - set(layers):
        decoder[index] = torch.nn.Module()
    with redirect_stdout(io.StringIO()):
        structure = Structure(outline, config, model)
    modules = dict(structure.model.named_modules())
    quantizers = [[n, m.is_enabled] for n, m in modules.items() if isinstance(m, TensorQuantizer)]
    inserted = {name for name, _ in quantizers}
    linears = [
        [name, int(module.weight.numel())]
        for name, module in modules.items()
        if f"{name}.weight_quantizer" in inserted and module.weight.ndim == 2
    ]
    drop_scales(structure.model)
    affine = config.kv_cache.format == "fp8_affine"
    entries, parameters = structure.describe_export(_bias_shapes(outline.config) if affine else {})
    return {
        "quantizers": quantizers,
        "linears": linears,
        "selected": [[name] for layer in structure.layers for name in layer.linears],
        "attentions": [[name] for layer in structure.layers for name in layer.attentions],
        "experts": max((len(b.experts) for layer in structure.layers for b in layer.blocks), default=0),
        "entries": entries,
        "parameters": parameters,
        "outside": sum(
            value.numel()
            for name, value in structure.model.named_parameters()
            if not name.startswith(prefix + ".")
        ),
    }


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause garbage collection while millions of small objects are created, without relevant cycles."""
    gc.disable()
    try:
        yield
    except KeyboardInterrupt:
        gc.freeze()  # the process ends now: nobody waits until all of these have been looked through
        raise
    finally:
        gc.enable()


def _expected(model: Any) -> tuple[int, int]:
    """Number of quantizers by formula: for the model as it is, and for one that was dequantized first.

    ModelOpt gives an FP8 linear an input and a weight quantizer, a plain one an output quantizer as well, and
    each attention one each for q, k, v and softmax.
    """
    import torch
    from transformers.integrations.finegrained_fp8 import FP8Linear

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    eight_bits = sum(isinstance(module, FP8Linear) for module in linears)
    attention = 4 * int(model.config.num_hidden_layers)
    whole = 3 * len(linears) + attention
    return whole - eight_bits, whole


def _numbered_alike(name: str) -> str:
    """The name with the same number wherever it has one."""
    return re.sub(r"\.\d+(?=\.)", ".0", name)


def _globs(quant_cfg: dict[str, Any], quantizers: dict[str, bool]) -> list[Glob]:
    """Each pattern, whether it enables or disables, and how many quantizers it matches and decides."""
    patterns = {
        pattern: bool(setting.get("enable", True))
        for pattern, setting in quant_cfg.items()
        if isinstance(setting, dict) and pattern != "default" and not pattern.startswith("nn.")
    }
    compiled = {pattern: re.compile(translate(pattern)).match for pattern in patterns}
    apart = any(map(alike.tells_numbers_apart, patterns))
    names: Iterable[str] = quantizers if apart else map(_numbered_alike, quantizers)
    matches: Counter[str] = Counter()
    decides: Counter[str] = Counter()
    for name, count in Counter(iter(names)).items():
        matching = [pattern for pattern, match in compiled.items() if match(name)]
        matches.update(dict.fromkeys(matching, count))
        decides.update(dict.fromkeys(matching[-1:], count))
    return [
        Glob(glob=pattern, enables=on, matches=matches[pattern], decides=decides[pattern])
        for pattern, on in patterns.items()
    ]


def _kinds(linears: dict[str, int], selected: set[str], globs: list[Glob]) -> Iterable[Modules]:
    """Linears with the same name except for numbers, with the pattern that decides on their weight."""
    portions_done: dict[str, list[str]] = {}
    for name in linears:
        portions_done.setdefault(re.sub(r"\.\d+(?=\.)", ".*", name), []).append(name)
    for kind, names in portions_done.items():
        matching = [each.glob for each in globs if fnmatch(f"{names[0]}.weight_quantizer", each.glob)]
        yield Modules(
            kind=kind,
            modules=len(names),
            selected=len(selected.intersection(names)),
            parameters=sum(linears[name] for name in names),
            glob=matching[-1] if matching else None,
        )


def _bias_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of ModelOpt's affine bias, a mean over samples and tokens: one value per head and channel."""
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    key, value = width, width
    if "kv_lora_rank" in config:  # latent attention: ModelOpt sees keys and values after expansion
        heads = int(config["num_attention_heads"])
        key, value = config["qk_nope_head_dim"] + config["qk_rope_head_dim"], config["v_head_dim"]
    return {"k_bmm_quantizer": (1, heads, 1, key), "v_bmm_quantizer": (1, heads, 1, value)}
