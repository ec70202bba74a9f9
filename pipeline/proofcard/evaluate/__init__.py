"""What quantization cost: the source and a checkpoint side by side through the same texts, layer by layer."""
