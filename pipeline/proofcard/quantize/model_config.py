"""config.json as a configuration object of the pinned transformers, or one sentence on why that fails."""

import copy
from pathlib import Path
from typing import Any

from proofcard.errors import Stop, Usage
from proofcard.quantize.spelling import parameters, translated

_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "vision_config", "audio_config")


def read(config: dict[str, Any], folder: Path, own_code: bool, where: str) -> tuple[Any, dict[str, Any]]:
    """The configuration object without its quantization, and `config` under the names that its class reads.

    `own_code`: the class comes from the folder's pinned Python files. `where` names config.json.

    Raises:
        Stop: when no class of the pinned transformers can run what the file describes.
    """
    from transformers import AutoModelForCausalLM

    config_class = _class_of(config, folder, own_code, where)
    translated_config = translated(config, parameters(config_class), where)
    for key in ("quantization_config", "compression_config"):
        translated_config.pop(key, None)  # its weights arrive dequantized
    if not own_code:
        _check_rope_type(translated_config, where)
    made = config_class.from_dict(copy.deepcopy(translated_config), name_or_path=str(folder))
    if not own_code and type(made) not in AutoModelForCausalLM._model_mapping:
        raise Stop(
            f"{where}: model_type {config['model_type']!r} is not a causal language model in transformers"
        )
    return made, translated_config


def _check_rope_type(config: dict[str, Any], where: str) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = config.get("rope_scaling") or {}
    config_class = scaling.get("rope_type", scaling.get("type", "default" if not scaling else None))
    if config_class not in ROPE_INIT_FUNCTIONS:
        raise Stop(
            f"{where}: rope_scaling is of type {config_class!r}, which is not one of the pinned "
            f"transformers' {', '.join(ROPE_INIT_FUNCTIONS)}"
        )


def in_pinned_spelling(config: dict[str, Any], where: str) -> dict[str, Any]:
    """`config` as the pinned transformers reads it; unchanged for a class that it does not have.

    Raises:
        Usage: when a setting cannot be expressed for the class.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name = config.get("model_type")
    if config.get("auto_map") or not isinstance(name, str) or name not in CONFIG_MAPPING:
        return config
    if any(isinstance(config.get(key), dict) for key in _PARTS):
        return config
    try:
        return translated(config, parameters(CONFIG_MAPPING[name]), where)
    except Stop as stop:
        raise Usage(str(stop)) from None


def check_parts(config: dict[str, Any], where: str) -> None:
    """Raise Stop for a multi-part configuration, such as a vision-language model's."""
    if parts := [key for key in _PARTS if isinstance(config.get(key), dict)]:
        raise Stop(
            f"{where} describes a multi-part model ({', '.join(parts)}), but only plain language models can "
            "be "
            "quantized: save its text model as a separate checkpoint with its own config.json"
        )


def _class_of(config: dict[str, Any], folder: Path, own_code: bool, where: str) -> Any:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    check_parts(config, where)
    if config.get("is_encoder_decoder"):
        raise Stop(f"{where} describes an encoder-decoder model: only decoder-only models can be quantized")
    if config.get("pruned_heads"):
        raise Stop(
            f"{where} has pruned_heads, which is not supported: use a source whose weights are already pruned"
        )
    if own_code:
        auto = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        return type(auto)
    name = config.get("model_type")
    if not isinstance(name, str) or not name:
        raise Stop(f"{where} has no model_type: use the model's complete, original config.json")
    if name not in CONFIG_MAPPING:
        raise Stop(
            f"{where}: the pinned transformers {transformers.__version__} does not know model_type {name!r}, "
            "and the checkpoint has no code for it under auto_map"
        )
    return CONFIG_MAPPING[name]
