"""The hub that stands in for the real one."""

from checkpoint.conftest import hub, hub_port

__all__ = ["hub", "hub_port"]
