"""Calibration samples: rows of datasets, chosen by seed, tokenized once and frozen."""
