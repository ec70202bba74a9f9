"""config.json as an object of the pinned transformers' class, or one sentence on why there is none."""

import copy
from pathlib import Path
from typing import Any

from proofcard.errors import Stop, Usage
from proofcard.quantize.spelling import parameters, translated

_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "vision_config", "audio_config")


def read(config: dict[str, Any], folder: Path, own_code: bool, where: str) -> tuple[Any, dict[str, Any]]:
    """The configuration object, without a quantization, and `config` under the names that its class reads.

    `own_code`: the class is in the folder's own Python files, which are pinned. `where` names config.json.

    Raises:
        Stop: when no class of the pinned transformers can run what the file describes.
    """
    from transformers import AutoModelForCausalLM

    kind = _class_of(config, folder, own_code, where)
    given = translated(config, parameters(kind), where)
    for key in ("quantization_config", "compression_config"):
        given.pop(key, None)  # its weights arrive dequantized
    if not own_code:
        _check_rope_type(given, where)
    made = kind.from_dict(copy.deepcopy(given), name_or_path=str(folder))
    if not own_code and type(made) not in AutoModelForCausalLM._model_mapping:
        raise Stop(f"{where}: model_type {config['model_type']!r} is not a language model of transformers")
    return made, given


def _check_rope_type(config: dict[str, Any], where: str) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default" if not scaling else None))
    if kind not in ROPE_INIT_FUNCTIONS:
        raise Stop(
            f"{where}: rope_scaling is of type {kind!r}, which is not one of the pinned "
            f"transformers' {', '.join(ROPE_INIT_FUNCTIONS)}"
        )


def in_pinned_words(config: dict[str, Any], where: str) -> dict[str, Any]:
    """`config` as the pinned transformers reads it; unchanged for a class that is not its own.

    Raises:
        Usage: when it says what the class cannot express.
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
    """Raises Stop for a configuration of several models, such as one of text and one of images."""
    if parts := [key for key in _PARTS if isinstance(config.get(key), dict)]:
        raise Stop(
            f"{where} describes a model of several parts ({', '.join(parts)}), and only a language model by "
            "itself is quantized: give its text model as a checkpoint of its own, with a config.json of its "
            "own"
        )


def _class_of(config: dict[str, Any], folder: Path, own_code: bool, where: str) -> Any:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    check_parts(config, where)
    if config.get("is_encoder_decoder"):
        raise Stop(f"{where} describes an encoder and a decoder: only decoders are quantized")
    if config.get("pruned_heads"):
        raise Stop(f"{where} has pruned_heads: heads are not pruned here, give a source whose weights are")
    if own_code:
        auto = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        return type(auto)
    name = config.get("model_type")
    if not isinstance(name, str) or not name:
        raise Stop(f"{where} has no model_type: give the model's own config.json, whole")
    if name not in CONFIG_MAPPING:
        raise Stop(
            f"{where}: transformers {transformers.__version__}, which is pinned here, does not know "
            f"model_type {name!r}, and the checkpoint brings no code for it under auto_map"
        )
    return CONFIG_MAPPING[name]
