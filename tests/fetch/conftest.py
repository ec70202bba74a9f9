"""The hub that stands in for the real one."""

from checkpoint.conftest import hub

__all__ = ["hub"]
