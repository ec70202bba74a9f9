"""Every key of config.json is accounted for: read by the model's class, known to be harmless, or refused.

transformers stores a key that a class does not know as an attribute that nothing reads, and a class may
replace a value by its own. Either way the model that runs would not be the one described.
"""

from collections.abc import Callable
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any

from proofcard.errors import Stop
from proofcard.quantize.config_reads import names_in_source, reads
from proofcard.quantize.spelling import EXPERTS, parameters

_HARMLESS = (
    # metadata
    "_*", "auto_map", "model_type", "name", "name_or_path", "transformers_version", "dtype", "torch_dtype",
    "use_bfloat16", "quantization_config", "compression_config", "torchscript", "language", "license",
    "unsloth_*", "transformers.js_config", "version", "model_name",
    # tokens and tasks
    "*_token_id", "*_token_ids", "*_token_index", "tokenizer_class", "tokenizer_*", "prefix", "id2label",
    "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task", "classifier_*",
    # training
    "*dropout*", "*_pdrop", "*drop_path*", "initializer_*", "*_init", "*_init_std", "init_*", "router_*_coef",
    "*_loss_*", "*_loss", "seq_aux", "aux_loss_alpha", "*_jitter_noise", "router_jitter*",
    "gradient_checkpointing", "moe_capacity*", "capacity_factor",
    # outputs of a call, caches, parallelism
    "use_cache", "output_attentions", "output_hidden_states", "output_router_logits", "return_dict",
    "cache_implementation", "attn_implementation", "experts_implementation", "pretraining_tp", "ep_size",
    "tp_size", "chunk_size_feed_forward",
    # lengths that no formula uses unless the class reads them
    "max_position_embeddings", "model_max_length", "max_sequence_length", "seq_length", "max_seq_len",
    # MTP heads: their tensors are checked separately (`fit`), the model does not run them
    "num_nextn_predict_layers", "num_mtp_modules", "mtp_*", "use_mtp",
)  # fmt: skip
_ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (
        "factor", "attention_factor", "beta_fast", "beta_slow", "original_max_position_embeddings", "mscale",
        "mscale_all_dim", "truncate",
    ),
    "longrope": ("short_factor", "long_factor", "factor", "attention_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}  # fmt: skip
_Neutral = Callable[[Any, dict[str, Any]], bool]
_NEUTRAL: dict[str, _Neutral] = {  # values that mean what a class without the key does anyway
    "attention_bias": lambda value, _: value is False,
    "mlp_bias": lambda value, _: value is False,
    "use_bias": lambda value, _: value is False,
    "use_qk_norm": lambda value, _: value is False,
    "attn_type_list": lambda value, _: all(kind == 1 for kind in value),
    "layer_types": lambda value, _: all(kind == "full_attention" for kind in value),
    "head_dim": lambda value, config: value * config["num_attention_heads"] == config["hidden_size"],
    "partial_rotary_factor": lambda value, _: value == 1,
    "rope_scaling": lambda value, _: not value,
    "sliding_window": lambda _, config: config.get("use_sliding_window") is False,
    "max_window_layers": lambda _, config: not config.get("use_sliding_window"),
    "use_sliding_window": lambda value, _: value is False,
    "moe_layer_freq": lambda value, _: value == 1,
    "decoder_sparse_step": lambda value, _: value == 1,
    "mlp_only_layers": lambda value, _: value == [],
    "n_shared_experts": lambda value, _: not value,
    "shared_intermediate_size": lambda value, _: not value,
    "logits_soft_cap": lambda value, _: not value,
    "hidden_act": lambda value, config: value == config["hidden_activation"],
    "pruned_heads": lambda value, _: not value,
    "is_encoder_decoder": lambda value, _: value is False,
    "is_decoder": lambda _, __: True,
    "add_cross_attention": lambda value, _: value is False,
    "tie_encoder_decoder": lambda value, _: value is False,
    "mlp_layer_types": lambda value, config: (
        value
        == ["dense"] * (dense := config.get("first_k_dense_replace", 0)) + ["sparse"] * (len(value) - dense)
    ),
}
_BUILT_IN: dict[str, dict[str, Any]] = {  # behaviour that a class has built in, under the key that selects it
    "deepseek_v2": {"scoring_func": "softmax", "norm_topk_prob": False},
    "deepseek_v3": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "glm4_moe": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "ernie4_5_moe": {"use_rmsnorm": True, "moe_use_aux_free": True},
    "mixtral": {"norm_topk_prob": True, "scoring_func": "softmax"},
}


def check(config: dict[str, Any], model: Any, ignored: tuple[str, ...], where: str) -> None:
    """Check every key of a configuration against the model that was built from it.

    `config` is config.json after `spelling.translated`; `ignored` are the keys of `model.ignored_keys`.

    Raises:
        Stop: naming a key that could change the computation and is not read, or is read as another value.
    """
    read = reads(model)
    defaults = parameters(type(model.config))
    unread: list[str] = []
    for key, value in config.items():
        if key in ignored:
            continue
        if key == "architectures":
            unread += [] if _names_class(value, model) else [key]
        elif value is None or any(fnmatch(key, pattern) for pattern in _HARMLESS):
            continue
        elif key in read or _aliases(model.config, key) & read:
            _check_value(key, value, config, model, where)
        elif not _is_neutral(key, value, config, defaults, model):
            unread.append(key)
    if unread:
        first, others = unread[0], len(unread) - 1
        name = type(model).__name__
        fault = f"{name} in the pinned transformers does not read it"
        if first == "architectures":
            fault = f"its model_type builds {name}"
        more = f" (nor {', '.join(unread[1:4])}{', …' if others > 3 else ''})" if others else ""
        raise Stop(
            f"{where} sets {first}={_short(config[first])}, but {fault}{more}: the result could be a "
            "different "
            f"model; if the key has no effect, pass model.ignored_keys=[{','.join(unread)}]"
        )
    _check_rope(config, read, model, ignored, where)


def _names_class(value: Any, model: Any) -> bool:
    """Whether `architectures`, by which engines choose their code, names the class that runs here."""
    if not isinstance(value, list) or not value:
        return value in (None, [])
    return type(model).__name__.lower() in [str(name).lower() for name in value]


def _aliases(config: Any, key: str) -> set[str]:
    """All names of a key's attribute."""
    target = config.attribute_map.get(key, key)
    return {name for name, real in config.attribute_map.items() if real == target} | {target}


def _check_value(key: str, value: Any, config: dict[str, Any], model: Any, where: str) -> None:
    """Refuse a key for which the class computes a different value from the file's."""
    actual = getattr(model.config, key, None)
    if isinstance(actual, tuple):
        actual = list(actual)
    if actual == value or (key in _NEUTRAL and _holds(_NEUTRAL[key], value, config)):
        return
    if isinstance(value, dict) and (key == "rope_scaling" or hasattr(actual, "to_dict")):
        return  # `_check_rope`; a configuration inside the configuration
    raise Stop(
        f"{where} sets {key}={_short(value)}, but {type(model).__name__} in the pinned transformers "
        f"uses {_short(actual)}: it cannot run this model as described"
    )


def _is_neutral(key: str, value: Any, config: dict[str, Any], defaults: dict[str, Any], model: Any) -> bool:
    built_in = _BUILT_IN.get(model.config.model_type, {})
    if key in built_in:
        return bool(built_in[key] == value)
    if key in _NEUTRAL and _holds(_NEUTRAL[key], value, config):
        return True
    if key in _generation_settings():
        return True
    if key in EXPERTS:
        return bool(value == 0)
    if key in defaults:
        return bool(defaults[key] == value)
    return _is_derived(key, value, config, type(model.config))


def _is_derived(key: str, value: Any, config: dict[str, Any], config_class: Any) -> bool:
    """Whether the class derives this value itself: `save_pretrained` writes such keys too."""
    without = config_class.from_dict({name: other for name, other in config.items() if name != key})
    return bool(getattr(without, key, None) == value)


def _holds(rule: _Neutral, value: Any, config: dict[str, Any]) -> bool:
    try:
        return bool(rule(value, config))
    except (KeyError, TypeError):
        return False


@lru_cache(maxsize=1)
def _generation_settings() -> frozenset[str]:
    from transformers import GenerationConfig

    return frozenset(GenerationConfig().to_dict()) - {"is_decoder"}


def _check_rope(
    config: dict[str, Any], read: frozenset[str], model: Any, ignored: tuple[str, ...], where: str
) -> None:
    """Check that `rope_scaling` has one type and no key that its formula ignores."""
    scaling = config.get("rope_scaling")
    if not isinstance(scaling, dict) or "rope_scaling" in ignored:
        return
    kinds = {scaling[name] for name in ("rope_type", "type") if scaling.get(name) is not None}
    if len(kinds) > 1:
        raise Stop(
            f"{where}: rope_scaling has two types, {' and '.join(map(repr, sorted(kinds)))}: "
            "correct the wrong one"
        )
    kind = next(iter(kinds), "default")
    mentioned = names_in_source(model)
    shared = "ROPE_INIT_FUNCTIONS" in mentioned
    known = {*mentioned, "rope_type", "type", *(_ROPE_KEYS.get(kind, ()) if shared else ())}
    for key, value in scaling.items():
        same = key == "original_max_position_embeddings" and value == config.get("max_position_embeddings")
        if key not in known and value is not None and not same and f"rope_scaling.{key}" not in ignored:
            raise Stop(
                f"{where}: rope_scaling of type {kind!r} sets {key}={_short(value)}, but "
                f"{type(model).__name__} in the pinned transformers does not read it; if the key has no "
                f"effect, pass model.ignored_keys=[rope_scaling.{key}]"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"
