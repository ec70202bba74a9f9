"""Calibration samples: rows of datasets, selected by seed, tokenized once and frozen."""
