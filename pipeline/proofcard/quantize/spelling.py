"""Translates config.json from the key names of newer transformers releases to those of the pinned one.

transformers 5 keeps rotary settings in `rope_parameters`, and uses one name for the number of experts in
every model. The pinned release stores unknown keys without reading them: it would run with defaults.
"""

import inspect
from collections.abc import Iterable
from typing import Any

from proofcard.errors import Stop

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_HOISTED = ("rope_theta", "partial_rotary_factor")


def translated(config: dict[str, Any], known: dict[str, Any], where: str) -> dict[str, Any]:
    """`config` with every key under the name that the model's class reads.

    `known` are the parameters of the class with their defaults; `where` names the file in messages.

    Raises:
        Stop: when a value has the wrong type, cannot be expressed for the class, or contradicts another.
    """
    made = dict(config)
    _one_name_for_experts(made, known, where)
    if "rope_parameters" not in known:
        _flat_rope(made, known, where)
    _check_types(made, known, where)
    _check_base(made, where)
    return made


def parameters(config_class: type) -> dict[str, Any]:
    """The parameters of a configuration class with their defaults, without those that every class has."""
    from transformers import PretrainedConfig

    found: dict[str, Any] = {}
    for cls in reversed(config_class.__mro__):
        if cls in PretrainedConfig.__mro__ or "__init__" not in vars(cls):
            continue
        found |= {
            name: None if parameter.default is parameter.empty else parameter.default
            for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != "self"
        }
    return found


def _one_name_for_experts(config: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """Rename a number of experts from another model's name to the one that the class reads."""
    own = [name for name in EXPERTS if name in known]
    given = {name: config[name] for name in EXPERTS if config.get(name) is not None}
    if len(own) != 1 or not given:
        return
    if len({repr(value) for value in given.values()}) > 1:
        listed = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise Stop(f"{where} has {listed}, which should all be the same number: correct the wrong one")
    for name in given:
        del config[name]
    config[own[0]] = next(iter(given.values()))


def _check_types(config: dict[str, Any], known: dict[str, Any], where: str) -> None:
    for key in config.keys() & known.keys():
        if not key.endswith("_token_id") and (wanted := _wrong_type(config[key], known[key])):
            raise Stop(f"{where} has {key}={config[key]!r}: it must be {wanted}")


def _wrong_type(value: Any, default: Any) -> str | None:
    """What a value must be instead, judged by the class's default; lists and null are left to the class."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(default, bool):
        return None if value in (True, False) and not isinstance(value, float) else "true or false"
    if isinstance(default, int):
        return None if type(value) is int else "a whole number"
    if isinstance(default, float):
        return None if type(value) in (int, float) else "a number"
    if default is None and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "true or false without quotes" if value.lower() in ("true", "false") else None
        return "a number without quotes"
    return None


def _check_base(config: dict[str, Any], where: str) -> None:
    base = config.get("rope_theta")
    if isinstance(base, int | float) and not base > 0:
        raise Stop(f"{where} has rope_theta={base}: it must be a positive number")


def _flat_rope(config: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """Rewrite `rope_parameters`, or such keys in `rope_scaling`, as `rope_theta` and `rope_scaling`."""
    given = config.pop("rope_parameters", None)
    for name, value in (("rope_parameters", given), ("rope_scaling", config.get("rope_scaling"))):
        if value is not None and not isinstance(value, dict):
            raise Stop(f"{where} has {name}={value!r}: it must be a JSON object or null")
    if given is None:
        flat = dict(config.get("rope_scaling") or {})
    elif given and all(isinstance(value, dict) for value in given.values()):
        flat = _of_all_layers(config, given, known, where)
    else:
        flat = dict(given)
    if given is not None and flat.get("rope_type", flat.get("type", "default")) == "default":
        flat = {key: value for key, value in flat.items() if key not in ("rope_type", "type")}
    hoisted = [key for key in _HOISTED if key in flat]
    if flat.get("rope_type", flat.get("type")) == "longrope":  # read from the configuration alone
        hoisted += [key for key in ("original_max_position_embeddings",) if key in flat]
    for key in hoisted:
        _set(config, key, flat.pop(key), where)
    if given is None:
        if "rope_scaling" in config:
            config["rope_scaling"] = flat or None
        return
    if flat and not {"rope_type", "type"} & flat.keys():
        raise Stop(
            f"{where}: rope_parameters has {', '.join(sorted(flat))} but no rope_type that uses it: add the "
            "rope_type, or positions would be computed without it"
        )
    if flat:
        _set(config, "rope_scaling", flat, where)
    elif config.get("rope_scaling"):
        raise Stop(f"{where}: rope_scaling is set, but rope_parameters has no scaling: correct the wrong one")


def _of_all_layers(
    config: dict[str, Any], given: dict[str, Any], known: dict[str, Any], where: str
) -> dict[str, Any]:
    """Merge the parameters of each layer type into one set, with a second base where the class has one."""
    used: Iterable[str] = config.get("layer_types") or given
    kinds = [kind for kind in given if kind in used]
    if missing := [kind for kind in used if kind not in given]:
        raise Stop(f"{where}: rope_parameters has no entry for layers of type {missing[0]}")
    if kinds and all(given[kind] == given[kinds[0]] for kind in kinds):
        return dict(given[kinds[0]])
    local = given.get("sliding_attention", {})
    plain = local.get("rope_type", "default") == "default" and local.keys() <= {"rope_type", "rope_theta"}
    if "rope_local_base_freq" in known and set(kinds) == {"full_attention", "sliding_attention"} and plain:
        if "rope_theta" in local:
            _set(config, "rope_local_base_freq", local["rope_theta"], where)
        return dict(given["full_attention"])
    raise Stop(
        f"{where}: rope_parameters differ between layers of type {' and '.join(sorted(kinds))}, which the "
        "pinned transformers cannot express for this model"
    )


def _set(config: dict[str, Any], key: str, value: Any, where: str) -> None:
    other = config.get(key)
    if other is not None and other != value:
        raise Stop(
            f"{where} has {key}={other!r}, but {value!r} in the rope parameters: correct the wrong one"
        )
    config[key] = value
