"""The stage `quantize`: from a source checkpoint and calibration samples to a sealed NVFP4 checkpoint."""
