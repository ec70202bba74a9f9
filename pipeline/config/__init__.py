"""Composed, checked, frozen configuration."""

from pipeline.config.compose import checked, compose
from pipeline.config.schema import AnalyseConfig, QuantizeConfig, VerifyConfig

__all__ = ["AnalyseConfig", "QuantizeConfig", "VerifyConfig", "checked", "compose"]
