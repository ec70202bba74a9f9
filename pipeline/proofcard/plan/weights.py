"""What ModelOpt would quantize and the export would hold, asked of ModelOpt on the model without weights."""

import gc
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from typing import Any

from proofcard.checkpoint.roles import role
from proofcard.checkpoint.writer import Entry, layout
from proofcard.config.schema import QuantizeConfig
from proofcard.documents.plan import ExportGroup, Glob, Modules
from proofcard.plan import portions
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
        """Numbers in the source's weights, scales left out."""
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


def take(config: QuantizeConfig, described: Described) -> Inventory:
    """Insert ModelOpt's quantizers on the meta device and read off everything.

    Raises:
        Stop: when the format selects nothing, leaves an expert's projection out, or finds no KV quantizer.
    """
    from proofcard.quantize import mtp
    from proofcard.quantize.layerwise.structure import layers_name
    from proofcard.quantize.quantizers import check_reached, check_selected, modelopt_config

    with _uncollected(), outlined(config, described) as (outline, model):
        expected, plain = _expected(model)
        prefix = layers_name(model)
        shared = portions.shares(len(model.get_submodule(prefix)), sum(1 for _ in model.modules()))
        found = portions.each(shared, lambda layers: _look(config, outline, model, layers))
    kept = {
        what: list(portions.in_order([portion[what] for portion in found], prefix))
        for what in ("quantizers", "linears", "selected", "attentions", "entries")
    }
    quantizers = dict(kept["quantizers"])
    linears = dict(kept["linears"])
    selected = {name for (name,) in kept["selected"]}
    check_selected(selected)
    check_reached(linears, selected, [name for (name,) in kept["attentions"]], config.kv_cache.format)
    with redirect_stdout(io.StringIO()):
        patterns = modelopt_config(config)["quant_cfg"]
    globs = _globs(patterns, quantizers)
    entries = [Entry(name, dtype, tuple(shape)) for name, dtype, shape in kept["entries"]]
    heads = mtp.entries(outline, list(outline.mtp_tensors))
    outside = found[0]["outside"]
    total = outside + sum(portion["parameters"] - outside for portion in found)
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
        experts=max(portion["experts"] for portion in found),
    )


def _look(config: QuantizeConfig, outline: Outline, model: Any, layers: range) -> portions.Portion:
    """Insert ModelOpt's quantizers into some layers, and what is in none; tell what is there then.

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
    """No garbage collection meanwhile: millions of small objects are made, none in a cycle that matters."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _expected(model: Any) -> tuple[int, int]:
    """Quantizers by formula: of the model as it is, and of one that was dequantized first.

    ModelOpt gives an FP8 linear input and weight quantizer, a plain one an output quantizer as well, and
    each attention one each for q, k, v and softmax.
    """
    import torch
    from transformers.integrations.finegrained_fp8 import FP8Linear

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    eight_bits = sum(isinstance(module, FP8Linear) for module in linears)
    attention = 4 * int(model.config.num_hidden_layers)
    whole = 3 * len(linears) + attention
    return whole - eight_bits, whole


def _globs(quant_cfg: dict[str, Any], quantizers: dict[str, bool]) -> list[Glob]:
    """Each pattern, whether it turns on or off, how many quantizers it matches and has the last word on."""
    patterns = {
        pattern: bool(said.get("enable", True))
        for pattern, said in quant_cfg.items()
        if isinstance(said, dict) and pattern != "default" and not pattern.startswith("nn.")
    }
    matches: Counter[str] = Counter()
    decides: Counter[str] = Counter()
    for name in quantizers:
        matching = [pattern for pattern in patterns if fnmatch(name, pattern)]
        matches.update(matching)
        decides.update(matching[-1:])
    return [
        Glob(glob=pattern, enables=on, matches=matches[pattern], decides=decides[pattern])
        for pattern, on in patterns.items()
    ]


def _kinds(linears: dict[str, int], selected: set[str], globs: list[Glob]) -> Iterable[Modules]:
    """Linears of one name but for their numbers, with the pattern that has the last word on their weight."""
    found: dict[str, list[str]] = {}
    for name in linears:
        found.setdefault(re.sub(r"\.\d+(?=\.)", ".*", name), []).append(name)
    for kind, names in found.items():
        matching = [each.glob for each in globs if fnmatch(f"{names[0]}.weight_quantizer", each.glob)]
        yield Modules(
            kind=kind,
            modules=len(names),
            selected=len(selected.intersection(names)),
            parameters=sum(linears[name] for name in names),
            glob=matching[-1] if matching else None,
        )


def _bias_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """ModelOpt's affine bias is a mean over samples and tokens: a number for each head and channel."""
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    key, value = width, width
    if "kv_lora_rank" in config:  # latent attention: ModelOpt sees keys and values already unfolded
        heads = int(config["num_attention_heads"])
        key, value = config["qk_nope_head_dim"] + config["qk_rope_head_dim"], config["v_head_dim"]
    return {"k_bmm_quantizer": (1, heads, 1, key), "v_bmm_quantizer": (1, heads, 1, value)}
