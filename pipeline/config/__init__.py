"""Composed, checked, frozen configuration."""

from pipeline.config.compose import checked, compose
from pipeline.config.schema import QuantizeConfig, VerifyConfig

__all__ = ["QuantizeConfig", "VerifyConfig", "checked", "compose"]
