"""From the command line's overrides to a checked configuration, or one sentence on what is wrong."""

import re
from difflib import get_close_matches
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
from proofcard.errors import Usage, one_line
from proofcard.extras import installed, require

Config = TypeVar("Config", bound=Part)

# Keys that hold a value, where Hydra would look for a file in the group of that name.
_VALUES = dict.fromkeys(("agentic", "benchmark", "repeat"), ("model=",))

# Keys below which any name may be given.
_OPEN = {"verify": ("datasets.",), "reproduce": ("datasets.",)}

OmegaConf.register_new_resolver("bundled", lambda name: str(bundled(name)), replace=True)


def compose(schema: type[Config], config_name: str, overrides: list[str]) -> Config:
    """Compose `conf/<config_name>.yaml` with Hydra overrides and check it against `schema`.

    Raises:
        Usage: for an unknown key or option (naming the nearest valid one), a missing or bad value,
            or a combination that cannot work.
    """
    with initialize_config_dir(config_dir=str(bundled("conf")), version_base="1.3"):
        try:
            values = [word for word in overrides if word.startswith(_VALUES.get(config_name, ()))]
            open_keys = _OPEN.get(config_name, ())
            others = [
                f"++{word}" if word.startswith(open_keys) else word
                for word in overrides
                if word not in values
            ]
            composed = hydra_compose(config_name=config_name, overrides=others)
            for value in map(OverridesParser.create().parse_override, values):
                OmegaConf.update(composed, value.key_or_group, value.value())
            return checked(schema, composed)
        except (HydraException, OmegaConfBaseException) as error:
            raise Usage(_explain(error, config_name, overrides)) from None


def checked(schema: type[Config], composed: DictConfig) -> Config:
    """A configuration that Hydra has composed, as a `schema`.

    Raises:
        Usage: for an unknown key, a bad value, a combination that cannot work, or tracking without MLflow.
        MissingMandatoryValue: when a value is missing.
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
    """Which override is at fault, and the nearest thing that would have worked."""
    text = str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is needed: give {error.full_key}=…"
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            return f"'{override}' is not an override: write key=value, quoting values with special characters"
        group = bundled("conf") / key
        if group.is_dir():
            options = sorted(path.stem for path in group.glob("*.yaml"))
            if parsed.value() not in options:
                return f"{key}={parsed.value()} does not exist{_nearest(str(parsed.value()), options)}"
        elif not override.startswith(("+", "~")) and key in text:
            return f"unknown key '{key}'{_nearest(key, _known_keys(config_name))}"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
    return f"the configuration cannot be composed: {one_line(cause)}"


def _known_keys(config_name: str) -> list[str]:
    groups = [path.name for path in bundled("conf").iterdir() if path.is_dir()]
    composed = OmegaConf.to_container(hydra_compose(config_name=config_name), resolve=False)
    return sorted({*groups, *flatten(composed)})


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
    return f": it is one of {', '.join(dict.fromkeys(key.split('.')[0] for key in known))}"


def _first_fault(error: ValidationError, values: dict[str, Any]) -> str:
    fault = error.errors()[0]
    where = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        valid = [key for key in flatten(values) if key != where]
        return f"unknown key '{where}'{_nearest(where, valid)}"
    message = re.sub("^(Value error, |Input should be )", "", fault["msg"])
    if not where or message.startswith(f"{where}."):
        return message
    if isinstance(fault["input"], dict):  # of a whole part: too long to be shown
        return f"{where}: {message}"
    return f"{where}={fault['input']!r}: should be {message}"
