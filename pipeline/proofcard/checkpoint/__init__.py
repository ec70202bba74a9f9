"""Reading checkpoints: safetensors headers and raw bits, inventories with a digest per tensor."""
