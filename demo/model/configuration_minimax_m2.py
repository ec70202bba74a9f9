"""Configuration of the demo's MiniMax-M2, with the field names of the upstream config.json.

Written for this project. Field meanings follow the published configuration; the values here
default to a model small enough for two CPU cores.
"""

from transformers.configuration_utils import PretrainedConfig


class MiniMaxM2Config(PretrainedConfig):
    """Sizes and switches of a MiniMax-M2 decoder.

    `head_dim` is free of `hidden_size / num_attention_heads`; the rotary embedding turns the first
    `rotary_dim` of the `head_dim` channels; `intermediate_size` is the width of one expert.
    """

    model_type = "minimax_m2"
    keys_to_ignore_at_inference = ("past_key_values",)
    attribute_map = {"num_experts": "num_local_experts"}  # noqa: RUF012  (the base class mutates no copy)

    def __init__(
        self,
        vocab_size: int = 1024,
        hidden_size: int = 256,
        intermediate_size: int = 128,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        num_key_value_heads: int = 2,
        head_dim: int = 64,
        rotary_dim: int = 32,
        rope_theta: float = 5_000_000,
        max_position_embeddings: int = 4096,
        num_local_experts: int = 16,
        num_experts_per_tok: int = 4,
        scoring_func: str = "sigmoid",
        use_routing_bias: bool = True,
        use_qk_norm: bool = True,
        qk_norm_type: str = "per_layer",
        hidden_act: str = "silu",
        rms_norm_eps: float = 1e-6,
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        output_router_logits: bool = False,
        tie_word_embeddings: bool = False,
        **kwargs,
    ):
        # The modelling code knows one routing rule and one normalisation; anything else is not this model.
        if scoring_func != "sigmoid" or not use_routing_bias:
            raise ValueError("only sigmoid scores with a routing bias are implemented")
        if not use_qk_norm or qk_norm_type != "per_layer":
            raise ValueError("only RMS normalisation over the whole query and key width is implemented")
        if rotary_dim > head_dim or rotary_dim % 2:
            raise ValueError(f"rotary_dim {rotary_dim} must be even and at most head_dim {head_dim}")

        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.rotary_dim = rotary_dim
        self.rope_theta = rope_theta
        self.max_position_embeddings = max_position_embeddings
        self.num_local_experts = num_local_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.scoring_func = scoring_func
        self.use_routing_bias = use_routing_bias
        self.use_qk_norm = use_qk_norm
        self.qk_norm_type = qk_norm_type
        self.hidden_act = hidden_act
        self.rms_norm_eps = rms_norm_eps
        self.attention_dropout = attention_dropout
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        self.output_router_logits = output_router_logits
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


__all__ = ["MiniMaxM2Config"]
