"""Composed, checked, frozen configuration."""

from pipeline.config.compose import checked, compose
from pipeline.config.schema import AnalyseConfig, CompareConfig, QuantizeConfig, VerifyConfig
from pipeline.config.serving import ServeConfig

__all__ = [
    "AnalyseConfig",
    "CompareConfig",
    "QuantizeConfig",
    "ServeConfig",
    "VerifyConfig",
    "checked",
    "compose",
]
