"""The stage `quantize`: from a source checkpoint and a sample set to a sealed NVFP4 checkpoint."""
