"""Composed, checked, frozen configuration."""

from proofcard.config.compose import checked, compose
from proofcard.config.reproducing import ReproduceConfig
from proofcard.config.schema import AnalyseConfig, CompareConfig, QuantizeConfig, VerifyConfig
from proofcard.config.serving import ServeConfig

__all__ = [
    "AnalyseConfig",
    "CompareConfig",
    "QuantizeConfig",
    "ReproduceConfig",
    "ServeConfig",
    "VerifyConfig",
    "checked",
    "compose",
]
