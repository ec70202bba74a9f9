"""The roles of a checkpoint's tensors, by name."""


def role(name: str) -> str:
    """The role of a tensor in the export, such as `experts weight_scale`."""
    leaf = name.rpartition(".")[2]
    parts = name.split(".")[:-1]
    if leaf in ("k_scale", "v_scale", "k_bias", "v_bias"):
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
        # `gate` must match a module's whole name, the other words a part of one
        if any(word == part or (word != "gate" and word in part) for word in words for part in parts):
            where = called
            break
    if leaf in ("weight_scale", "weight_scale_2", "input_scale"):
        return f"{where} {leaf}"
    return where
