"""The model card of a checkpoint, made from its documents and checked against them."""
