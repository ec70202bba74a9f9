"""Turns the command line's overrides into a validated configuration, or one sentence on what is wrong."""

import re
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from proofcard.bundle import bundled
from proofcard.config.schema import Part
from proofcard.config.spelling import spelled
from proofcard.errors import Usage, one_line
from proofcard.extras import installed, require

Config = TypeVar("Config", bound=Part)

# Keys with a value, for which Hydra would look for a file in the group of that name.
_VALUES = dict.fromkeys(("agentic", "benchmark", "repeat"), ("model=",))

# Keys below which any name may be given.
_OPEN = {"verify": ("datasets.",), "reproduce": ("datasets.",)}

OmegaConf.register_new_resolver("bundled", lambda name: str(bundled(name)), replace=True)


def compose(schema: type[Config], config_name: str, overrides: list[str]) -> Config:
    """Compose `conf/<config_name>.yaml` with Hydra overrides and validate it against `schema`.

    Raises:
        Usage: for an unknown key or option (naming the nearest valid one), a missing or invalid value,
            or a combination that cannot work.
    """
    words = spelled(schema, overrides)
    with initialize_config_dir(config_dir=str(bundled("conf")), version_base="1.3"):
        try:
            return checked(schema, _composed(config_name, words))
        except (HydraException, OmegaConfBaseException) as error:
            raise Usage(_explain(error, config_name, words)) from None


def printed(schema: type[Config], config_name: str, overrides: list[str]) -> str:
    """The composed configuration as YAML, `???` for what is missing; its values are not checked.

    Raises:
        Usage: as `compose` does for what cannot be composed.
    """
    words = spelled(schema, overrides)
    with initialize_config_dir(config_dir=str(bundled("conf")), version_base="1.3"):
        try:
            return OmegaConf.to_yaml(_composed(config_name, words))
        except (HydraException, OmegaConfBaseException) as error:
            raise Usage(_explain(error, config_name, words)) from None


def _composed(config_name: str, words: list[str]) -> DictConfig:
    """What Hydra composes of the words."""
    values = [word for word in words if word.startswith(_VALUES.get(config_name, ()))]
    open_keys = _OPEN.get(config_name, ())
    others = [f"++{word}" if word.startswith(open_keys) else word for word in words if word not in values]
    composed = hydra_compose(config_name=config_name, overrides=others)
    for value in map(OverridesParser.create().parse_override, values):
        OmegaConf.update(composed, value.key_or_group, value.value())
    return composed


def checked(schema: type[Config], composed: DictConfig) -> Config:
    """A configuration composed by Hydra, as an instance of `schema`.

    Raises:
        Usage: for an unknown key, an invalid value, a combination that cannot work, or tracking without
        MLflow. MissingMandatoryValue: when a value is missing.
    """
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        raise Usage(_first_fault(error, values)) from None
    tracking = getattr(config, "tracking", None)
    if tracking is not None and not tracking.create and not installed("tracking"):
        return config.model_copy(update={"tracking": tracking.model_copy(update={"uri": None})})
    if tracking is not None and tracking.uri is not None:
        require("tracking in MLflow", "tracking", "; or turn it off with tracking=off")
    return config


def _explain(error: Exception, config_name: str, overrides: list[str]) -> str:
    """The wrong override, and the nearest valid one."""
    text = str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is needed: give {error.full_key}=…"
    for word in overrides:
        key = word.split("=", 1)[0].lstrip("+~")
        try:
            parsed = OverridesParser.create().parse_override(word)
        except HydraException:
            return f"'{word}' is not an override: write key=value, quoting values with special characters"
        if parsed.is_sweep_override():
            return _several(word, config_name)
        group = bundled("conf") / key
        if group.is_dir() and (key in _groups(config_name) or word.startswith(("+", "hydra/"))):
            options = sorted(path.stem for path in group.glob("*.yaml"))
            if parsed.value() not in options:
                return f"{key}={parsed.value()} does not exist{_nearest(str(parsed.value()), options)}"
        elif not word.startswith(("+", "~")) and key in text:
            return _unknown(key, _known_keys(config_name))
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
    return f"cannot compose the configuration: {one_line(cause)}"


def _several(word: str, config_name: str) -> str:
    """What to do about several values, of which Hydra would make several configurations."""
    swept = {"config": "quantize", "benchmark": "benchmark"}.get(config_name)
    key, _, value = word.partition("=")
    a_list = "" if (bundled("conf") / key).is_dir() else f"; if it is one list, write {key}=[{value}]"
    if swept is None:
        return f"{word} has several values, but one is needed{a_list}"
    return f"{word} has several values, which need -m: proofcard {swept} -m {word}{a_list}"


@cache
def _groups(config_name: str) -> list[str]:
    """The groups of options that a command's configuration is composed from."""
    composed = hydra_compose(config_name=config_name, return_hydra_config=True)
    return [name for name in composed.hydra.runtime.choices if not str(name).startswith("hydra/")]


@cache
def _known_keys(config_name: str) -> list[str]:
    composed = OmegaConf.to_container(hydra_compose(config_name=config_name), resolve=False)
    return sorted({*_groups(config_name), *flatten(composed)})


def _unknown(key: str, known: list[str]) -> str:
    """The sentence for an unknown key, with the nearest known one.

    Below a name that does not exist no key is suggested, since it would be another one's.
    """
    steps = key.split(".")
    for depth in range(1, len(steps)):
        parent = ".".join(steps[:depth])
        names = sorted(
            {name.removeprefix(f"{parent}.").split(".")[0] for name in known if name.startswith(f"{parent}.")}
        )
        if names and steps[depth] not in names and depth < len(steps) - 1:
            return f"unknown key '{key}': {parent} has no '{steps[depth]}'{_nearest(steps[depth], names)}"
    return f"unknown key '{key}'{_nearest(key, known)}"


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; a list counts as one value."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": choose one of {', '.join(dict.fromkeys(key.split('.')[0] for key in known))}"


def _first_fault(error: ValidationError, values: dict[str, Any]) -> str:
    fault = error.errors()[0]
    where = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        valid = [key for key in flatten(values) if key != where]
        return _unknown(where, valid)
    message = re.sub("^(Value error, |Input should be )", "", fault["msg"])
    if not where or message.startswith(f"{where}."):
        return message
    if isinstance(fault["input"], dict):  # of a whole part: too long to be shown
        return f"{where}: {message}"
    return f"{where}={fault['input']!r}: it must be {message}"
