"""How far one next-token distribution is from another, at each position.

Identical token ids, the whole vocabulary, log-softmax in float32, products and sums in float64:

    KL(P‖Q) = Σ p·(ln p − ln q)             forward, P the reference's, in nats
    JS(P,Q) = ½·KL(P‖M) + ½·KL(Q‖M),  M = (P+Q)/2
    Δp      = q(next token) − p(next token)
    same    = argmax p equals argmax q

(rtx6kpro's protocol, and llama.cpp's `--kl-divergence`.) A position counts where a next token follows in
its text.
"""

from dataclasses import dataclass

import torch

_ELEMENTS = 1 << 25  # logits worked on at a time: float64 copies of so many stay small


@dataclass(frozen=True)
class Positions:
    """Values of each position, float64 [positions]; `same` is 0 or 1."""

    kl: torch.Tensor
    js: torch.Tensor
    reference_nll: torch.Tensor
    candidate_nll: torch.Tensor
    delta_p: torch.Tensor
    same: torch.Tensor

    def stacked(self) -> torch.Tensor:
        """Float64 [FIELDS, positions] on the CPU."""
        return torch.stack([getattr(self, name) for name in FIELDS]).cpu()


FIELDS = ("kl", "js", "reference_nll", "candidate_nll", "delta_p", "same")


def between(reference: torch.Tensor, candidate: torch.Tensor, targets: torch.Tensor) -> Positions:
    """Of logits [positions, vocabulary] and next tokens `targets`, int64 [positions]."""
    rows = max(1, _ELEMENTS // reference.shape[-1])
    parts = [
        _between(reference[at : at + rows], candidate[at : at + rows], targets[at : at + rows])
        for at in range(0, len(reference), rows)
    ]
    return Positions(*(torch.cat([getattr(part, name) for part in parts]) for name in FIELDS))


def _between(reference: torch.Tensor, candidate: torch.Tensor, targets: torch.Tensor) -> Positions:
    ours, theirs = (torch.log_softmax(logits.float(), dim=-1) for logits in (reference, candidate))
    same = ours.argmax(dim=-1) == theirs.argmax(dim=-1)
    log_p, log_q = ours.double(), theirs.double()
    p, q = log_p.exp(), log_q.exp()
    kl = _mean(p, log_p - log_q)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0, dtype=torch.float64))
    js = (_mean(p, log_p - log_m) + _mean(q, log_q - log_m)) / 2
    here = targets.unsqueeze(-1)
    nll = [-logs.gather(-1, here).squeeze(-1) for logs in (log_p, log_q)]
    delta = torch.exp(-nll[1]) - torch.exp(-nll[0])
    return Positions(kl, js, nll[0], nll[1], delta, same.double())


def _mean(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Σ weights·values over the vocabulary; what has no weight counts nothing, whatever its value."""
    return torch.where(weights == 0, 0.0, weights * values).sum(dim=-1)
