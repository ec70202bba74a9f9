"""Composed, checked, frozen configuration."""

from pipeline.config.compose import checked, compose
from pipeline.config.schema import AnalyseConfig, CompareConfig, QuantizeConfig, VerifyConfig

__all__ = ["AnalyseConfig", "CompareConfig", "QuantizeConfig", "VerifyConfig", "checked", "compose"]
