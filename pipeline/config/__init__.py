"""Composed, checked, frozen configuration."""

from pipeline.config.compose import compose
from pipeline.config.schema import QuantizeConfig, VerifyConfig

__all__ = ["QuantizeConfig", "VerifyConfig", "compose"]
