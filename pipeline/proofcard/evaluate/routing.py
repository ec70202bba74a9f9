"""Which experts a token goes to, and with what weights, from what its block's gate has answered."""

from typing import Any

import torch


def chosen(block: Any, answer: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Experts int64 [tokens, chosen] and their weights float32 [tokens, chosen], sum 1; None where not known.

    Of logits the largest are taken: after a sigmoid and with the block's correction bias where it has one
    (DeepSeek-V3, MiniMax-M2), else after a softmax (Mixtral, Qwen3-MoE). A gate that chooses itself
    (DeepSeek-V2) answers with experts and weights. `agrees` holds the choice to what the block really
    did.
    """
    if isinstance(answer, tuple):
        experts = next((part for part in answer if not part.is_floating_point()), None)
        weights = next((part for part in answer if part.is_floating_point() and part.ndim == 2), None)
        if experts is None or weights is None or experts.shape != weights.shape:
            return None
        return experts, _shares(weights.float())
    count = getattr(block, "top_k", None)
    if not isinstance(count, int) or answer.ndim != 2:
        return None
    bias = getattr(block, "e_score_correction_bias", None)
    if bias is None:
        scores = torch.softmax(answer.float(), dim=-1)
        experts = torch.topk(scores, count, dim=-1).indices
    else:
        scores = answer.float().sigmoid()
        experts = torch.topk(scores + bias, count, dim=-1).indices
    return experts, _shares(scores.gather(-1, experts))


def by_text(answer: Any, texts: int) -> list[Any]:
    """A gate's answer for tokens of texts of one length, cut into an answer for each."""
    if isinstance(answer, tuple):
        parts = [by_text(part, texts) for part in answer if isinstance(part, torch.Tensor) and part.ndim == 2]
        return [*zip(*parts, strict=True)] if parts else [()] * texts
    return list(answer.chunk(texts)) if len(answer) % texts == 0 else [answer] * texts


def agrees(experts: torch.Tensor, rows: list[int]) -> bool:
    """Whether each expert got as many rows as chose it; `rows` in the order of the experts."""
    counts = torch.bincount(experts.reshape(-1), minlength=len(rows))
    return counts.tolist() == rows


def difference(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor], experts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token, float64 [tokens]: the share of experts chosen by both, and the weight that moved.

    The weight that moved is half the sum of |weight − weight| over all experts, an unchosen one's being 0.
    """
    dense = [_dense(experts_of, weights, experts) for experts_of, weights in (one, other)]
    both = ((dense[0][0] > 0) & (dense[1][0] > 0)).sum(dim=-1).double() / one[0].shape[-1]
    moved = (dense[0][1] - dense[1][1]).abs().sum(dim=-1) / 2
    return both, moved


def _dense(experts: torch.Tensor, weights: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (len(experts), count)
    taken = torch.zeros(shape, dtype=torch.float64, device=weights.device).scatter(-1, experts, 1.0)
    spread = torch.zeros(shape, dtype=torch.float64, device=weights.device).scatter(
        -1, experts, weights.double()
    )
    return taken, spread


def _shares(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum(dim=-1, keepdim=True)
