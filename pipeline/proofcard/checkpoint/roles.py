"""What the tensors of a checkpoint are for, by their names."""

WEIGHT_SCALES = ("weight_scale", "weight_scale_2")
"""Scales beside a packed weight, which follow from it."""
INPUT_SCALES = ("input_scale",)
KV_CACHE = ("k_scale", "v_scale", "k_bias", "v_bias")
"""Of the KV cache, beside the projection of keys or values."""
CALIBRATED = (*INPUT_SCALES, *KV_CACHE)
"""What calibration decides; every other tensor follows from the source's weights."""


def role(name: str) -> str:
    """What a tensor of the export is for."""
    leaf = name.rpartition(".")[2]
    parts = name.split(".")[:-1]
    if leaf in KV_CACHE:
        return "KV cache " + ("biases" if leaf.endswith("bias") else "scales")
    where = "other"
    for words, called in (
        (("norm",), "norms"),
        (("shared_expert",), "shared experts"),
        (("experts",), "experts"),
        (("attn", "attention"), "attention"),
        (("gate", "router", "block_sparse_moe"), "router"),
        (("mlp", "feed_forward"), "MLP"),
        (("embed",), "embedding"),
        (("lm_head",), "output head"),
    ):
        # `gate` is a module's whole name, every other word a part of one
        if any(word == part or (word != "gate" and word in part) for word in words for part in parts):
            where = called
            break
    if leaf in (*WEIGHT_SCALES, *INPUT_SCALES):
        return f"{where} {leaf}"
    return where
