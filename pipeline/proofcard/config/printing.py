"""`--cfg job`: the configuration that a command composes, printed as YAML; nothing is run."""

import json
import sys
from importlib import import_module

from omegaconf import OmegaConf

from proofcard import screen
from proofcard.config.compose import printed
from proofcard.errors import Usage

_SCHEMAS = {
    "agentic": "agentic:AgenticConfig",
    "analyse": "schema:AnalyseConfig",
    "audit": "schema:QuantizeConfig",
    "benchmark": "benchmarking:BenchmarkConfig",
    "card": "card:CardConfig",
    "compare": "schema:CompareConfig",
    "evaluate": "evaluating:EvaluateConfig",
    "fetch": "schema:QuantizeConfig",
    "plan": "schema:QuantizeConfig",
    "publish": "publishing:PublishConfig",
    "quantize": "schema:QuantizeConfig",
    "repeat": "repeat:RepeatConfig",
    "reproduce": "reproducing:ReproduceConfig",
    "run": "running:RunConfig",
    "serve": "serving:ServeConfig",
    "sign": "signing:SignConfig",
    "tasks": "tasks:TasksConfig",
    "verify": "schema:VerifyConfig",
}
"""The schema of each command's configuration, as module:class of this package."""
_OWN = {"audit": ("claims", "checkpoint", "plan", "report"), "plan": ("report", "details")}
"""Keys that a command reads itself."""


def show(command: str, what: str, words: list[str]) -> int:
    """Print what the command composes of the words. Returns 0.

    Raises:
        Usage: for any `what` but `job`, and for what cannot be composed.
    """
    if what != "job":
        raise Usage(f"--cfg {what}: write --cfg job, which prints the configuration of the command")
    if command not in _SCHEMAS:
        raise Usage(f"{command} composes no configuration of its own: see proofcard {command} --help")
    kept = [word for word in words if word.partition("=")[0] not in _OWN.get(command, ())]
    module, _, name = _SCHEMAS[command].partition(":")
    schema = getattr(import_module(f"proofcard.config.{module}"), name)
    config_name = "config" if name == "QuantizeConfig" else command
    text = printed(schema, config_name, kept)
    if screen.json_is_asked():
        text = json.dumps(OmegaConf.to_container(OmegaConf.create(text)), indent=2) + "\n"
    sys.stdout.write(text)
    return 0
