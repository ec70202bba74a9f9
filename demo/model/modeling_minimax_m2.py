"""MiniMax-M2 for transformers 4.57, written for this project from the published architecture.

A pre-norm decoder. Attention: grouped queries, RMS normalisation over the whole query and key
width, rotary embedding on the first `rotary_dim` channels of each head. Feed-forward: experts with
a SiLU gate, chosen by sigmoid scores plus a correction bias; the chosen scores themselves (without
the bias), renormalised to sum 1, weigh the experts. Shapes below: B batch, S tokens, D hidden size,
H query heads, K key/value heads, C head_dim, E experts.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from .configuration_minimax_m2 import MiniMaxM2Config


class MiniMaxM2RMSNorm(nn.Module):
    """x / rms(x) · weight over the last axis; the mean square is taken in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class MiniMaxM2RotaryEmbedding(nn.Module):
    """Cosine and sine tables, (B, S, rotary_dim) each.

    The frequencies are computed on every call and kept in no buffer: casting the model to BF16
    must not round them.
    """

    def __init__(self, config: MiniMaxM2Config):
        super().__init__()
        self.rotary_dim = config.rotary_dim
        self.theta = config.rope_theta

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps = torch.arange(0, self.rotary_dim, 2, dtype=torch.int64, device=x.device).float()
        inverse_frequency = 1.0 / (self.theta ** (steps / self.rotary_dim))
        angle = position_ids[:, :, None].float() * inverse_frequency[None, None, :]
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the first rotary channels of x (B, heads, S, C); the others pass unchanged."""
    cos, sin = cos[:, None], sin[:, None]
    width = cos.shape[-1]
    turned, passed = x[..., :width], x[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, passed), dim=-1)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention in plain operations: (B, H, S, C), (B, K, T, C) twice -> (B, S, H, C), (B, H, S, T).

    Name and signature are the ones by which quantization tools find and wrap the function.
    """
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[-2]]
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class MiniMaxM2Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys and a partial rotary embedding."""

    def __init__(self, config: MiniMaxM2Config, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        query_width = config.num_attention_heads * self.head_dim
        key_width = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=False)
        self.q_norm = MiniMaxM2RMSNorm(query_width, config.rms_norm_eps)
        self.k_norm = MiniMaxM2RMSNorm(key_width, config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache_position: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, length, _ = hidden_states.shape
        cos, sin = position_embeddings

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, length, -1, self.head_dim).transpose(1, 2)

        query = rotate(heads(self.q_norm(self.q_proj(hidden_states))), cos, sin)
        key = rotate(heads(self.k_norm(self.k_proj(hidden_states))), cos, sin)
        value = heads(self.v_proj(hidden_states))
        if past_key_values is not None:
            where = {"sin": sin, "cos": cos, "cache_position": cache_position}
            key, value = past_key_values.update(key, value, self.layer_idx, where)

        attend: Callable = eager_attention_forward
        if self.config._attn_implementation != "eager":
            attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(output.reshape(batch, length, -1)), weights


class MiniMaxM2MLP(nn.Module):
    """One expert: w2(silu(w1 x) · w3 x), on (tokens, D)."""

    def __init__(self, config: MiniMaxM2Config):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.act_fn(self.w1(x)) * self.w3(x))


class MiniMaxM2SparseMoeBlock(nn.Module):
    """Sparse feed-forward: each token goes to its `top_k` experts.

    `top_k` and `num_experts` are read on every call: calibration tools raise `top_k` to send every
    token to every expert.
    """

    def __init__(self, config: MiniMaxM2Config):
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.num_experts = config.num_local_experts
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = nn.ModuleList(MiniMaxM2MLP(config) for _ in range(config.num_local_experts))
        # float32 by name: a model loaded in BF16 keeps it so, and a rounded bias chooses other experts.
        bias = torch.zeros(config.num_local_experts, dtype=torch.float32)
        self.register_buffer("e_score_correction_bias", bias)

    def route(self, router_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, E) logits -> chosen experts (tokens, top_k) int64 and their weights, float32, sum 1."""
        scores = router_logits.float().sigmoid()
        chosen = torch.topk(scores + self.e_score_correction_bias, self.top_k, dim=-1, sorted=False).indices
        weights = scores.gather(1, chosen)
        return chosen, weights / weights.sum(dim=-1, keepdim=True)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S, D) -> the mixed experts' output (B, S, D) and the router's logits (B·S, E)."""
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        router_logits = self.gate(tokens)
        chosen, weights = self.route(router_logits)
        output = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            row, slot = torch.where(chosen == index)
            if row.numel():
                part = expert(tokens[row]) * weights[row, slot, None]
                output.index_add_(0, row, part.to(output.dtype))
        return output.view_as(hidden_states), router_logits


class MiniMaxM2DecoderLayer(nn.Module):
    """Attention and experts, each behind a normalisation and a residual connection."""

    def __init__(self, config: MiniMaxM2Config, layer_idx: int):
        super().__init__()
        self.self_attn = MiniMaxM2Attention(config, layer_idx)
        self.block_sparse_moe = MiniMaxM2SparseMoeBlock(config)
        self.input_layernorm = MiniMaxM2RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = MiniMaxM2RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """(B, S, D) -> (B, S, D); the keyword arguments are those of the attention."""
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        mixed, _ = self.block_sparse_moe(self.post_attention_layernorm(hidden_states))
        return hidden_states + mixed


class MiniMaxM2PreTrainedModel(PreTrainedModel):
    """What the library needs to know to build, load and place the model."""

    config_class = MiniMaxM2Config
    base_model_prefix = "model"
    _no_split_modules = ("MiniMaxM2DecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _supports_sdpa = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, MiniMaxM2RMSNorm):
            module.weight.data.fill_(1.0)
        elif isinstance(module, MiniMaxM2SparseMoeBlock):
            module.e_score_correction_bias.data.zero_()


class MiniMaxM2Model(MiniMaxM2PreTrainedModel):
    """Token ids (B, S) -> hidden states (B, S, D), normalised."""

    def __init__(self, config: MiniMaxM2Config):
        super().__init__(config)
        # No padding index: pad and end of text share one id, whose embedding is a real one.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(MiniMaxM2DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = MiniMaxM2RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = MiniMaxM2RotaryEmbedding(config)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache_position: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> MoeModelOutputWithPast:
        """`position_ids` count from 0 at the first column unless given; the mask hides padded columns."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if cache_position is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            cache_position = torch.arange(
                seen, seen + hidden_states.shape[1], dtype=torch.int64, device=hidden_states.device
            )
        if position_ids is None:
            position_ids = cache_position[None, :]
        mask = create_causal_mask(
            config=self.config,
            input_embeds=hidden_states,
            attention_mask=attention_mask,
            cache_position=cache_position,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        position_embeddings = self.rotary_emb(hidden_states, position_ids)

        every_state = [] if output_hidden_states else None
        for layer in self.layers:
            if every_state is not None:
                every_state.append(hidden_states)
            hidden_states = layer(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                cache_position=cache_position,
            )
        hidden_states = self.norm(hidden_states)
        return MoeModelOutputWithPast(
            last_hidden_state=hidden_states,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=None if every_state is None else (*every_state, hidden_states),
        )


class MiniMaxM2ForCausalLM(MiniMaxM2PreTrainedModel, GenerationMixin):
    """Token ids (B, S) -> logits (B, S, vocabulary), with a key/value cache for generation."""

    _tied_weights_keys = ()

    def __init__(self, config: MiniMaxM2Config):
        super().__init__(config)
        self.model = MiniMaxM2Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> MoeCausalLMOutputWithPast:
        """`logits_to_keep`: how many last positions to score (0: all), or their indices."""
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return MoeCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )


__all__ = ["MiniMaxM2Config", "MiniMaxM2ForCausalLM", "MiniMaxM2Model", "MiniMaxM2PreTrainedModel"]
