"""engine=layerwise: one decoder layer in memory at a time, the bytes of engine=modelopt."""
