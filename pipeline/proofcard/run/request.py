"""What the command line asks of the whole chain, and which of its words go to which stage."""

import re
from dataclasses import dataclass

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from proofcard.bundle import bundled
from proofcard.config import QuantizeConfig, compose
from proofcard.config.running import STAGES, RunConfig, StageName, Usual
from proofcard.config.signing import Signer
from proofcard.config.spelling import spelled

SIGNER = tuple(Signer.model_fields)
"""Keys that say who signs: one of them on the command line takes the place of all that are usual."""

_RECIPE: tuple[StageName, ...] = ("plan", "fetch", "quantize", "evaluate", "audit")
_TAKERS: dict[str, tuple[StageName, ...]] = {
    **dict.fromkeys(
        (
            "recipe", "model", "calibration", "quantization", "kv_cache", "coverage", "engine", "toolchain",
            "hardware", "seed", "ulp_bound",
        ),
        _RECIPE,
    ),
    "output_dir": ("plan", "fetch", "quantize", "audit"),
    "serving": ("serve", "benchmark"),
    "truth": ("serve", "benchmark"),
    "benchmark": ("benchmark",),
    "evaluation": ("evaluate",),
    "license": ("card",),
    "license_name": ("card",),
    "license_link": ("card",),
    **dict.fromkeys(SIGNER, ("sign",)),
    "hydra": ("quantize",),
}  # fmt: skip
"""By the first part of an override's key: the stages that are given the override. All others take none but
those of `_ALL`, which every stage takes."""

_ALL = ("work_dir", "tracking")
_CHOSEN: dict[str, tuple[StageName, ...]] = {
    "recipe": _RECIPE, "serving": ("serve", "benchmark"), "truth": ("serve",), "benchmark": ("benchmark",),
    "evaluation": ("evaluate",),
}  # fmt: skip
"""Groups whose option is always in the stages' command lines."""

_GROUP = re.compile(r"[+~]*([a-z_]+)")


@dataclass(frozen=True)
class Request:
    """A validated request. `recipe` is the configuration as `quantize` will compose it; `given` the words."""

    config: RunConfig
    recipe: QuantizeConfig
    usual: Usual | None
    given: tuple[str, ...]
    words: dict[StageName, list[str]]


def read(overrides: list[str]) -> Request:
    """Compose the overrides, with the usual options of the model where none are given.

    Raises:
        Usage: for whatever one of the stages would refuse in its own configuration.
    """
    ours = [word for word in overrides if _key(word) != "hydra"]
    given = {_key(word) for word in ours}
    model = _choices(ours).get("model", "")
    usual = _usual().get(model)
    if usual is not None:
        given |= set(SIGNER) if given & set(SIGNER) else set()
        ours = [*(word for word in usual.options if _key(word) not in given), *ours]
    config = compose(RunConfig, "run", ours)
    chosen = _choices(ours)
    words: dict[StageName, list[str]] = {stage: _words(stage, overrides, ours, chosen) for stage in STAGES}
    recipe = compose(QuantizeConfig, "config", [word for word in words["plan"] if _key(word) != "hydra"])
    return Request(config, recipe, usual, tuple(overrides), words)


def _key(word: str) -> str:
    """The first part of an override's key."""
    found = _GROUP.match(word)
    return found[1] if found else ""


def _choices(words: list[str]) -> dict[str, str]:
    """The option that is chosen of each group; none where the words cannot be composed."""
    try:
        with initialize_config_dir(config_dir=str(bundled("conf")), version_base="1.3"):
            composed = hydra_compose("run", spelled(RunConfig, words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return {}  # what is wrong with them is said when they are composed to be used
    return {str(group): str(option) for group, option in composed.hydra.runtime.choices.items()}


def _usual() -> dict[str, Usual]:
    """What conf/run.yaml says is usual for each option of `model`."""
    values = OmegaConf.to_container(OmegaConf.load(bundled("conf") / "run.yaml"))
    assert isinstance(values, dict)
    return {str(model): Usual.model_validate(usual) for model, usual in values["usual"].items()}


def _words(stage: StageName, given: list[str], composed: list[str], chosen: dict[str, str]) -> list[str]:
    """The overrides for a stage: options of its groups, then what else concerns it, in the order given."""
    options = [f"{group}={chosen[group]}" for group, stages in _CHOSEN.items() if stage in stages]
    launcher = [word for word in given if _key(word) == "hydra"]
    theirs = [
        word
        for word in [*composed, *launcher]
        if stage in _TAKERS.get(_key(word), STAGES if _key(word) in _ALL else ()) and word not in options
    ]
    return [*options, *theirs]
