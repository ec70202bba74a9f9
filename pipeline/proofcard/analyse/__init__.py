"""Analyses a sealed checkpoint's calibration from its own statistics."""
