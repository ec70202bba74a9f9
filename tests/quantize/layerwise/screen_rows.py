"""Rows and weights for the screen, easy and adverse, and what the exact pass makes of them."""

import torch
from torch.nn.functional import silu

from proofcard.quantize.layerwise.screen_codes import Tiling

TILING = Tiling(tokens=32, neurons=32, depth=32, group=2, warps=4, stages=2)
CHANNELS, NEURONS, EXPERTS, TOKENS = 48, 40, 3, 70
Pairs = list[tuple[torch.Tensor, torch.Tensor]]


def _outliers(x: torch.Tensor, pairs: Pairs) -> None:
    x[:, :3] *= 30


def _one_token(x: torch.Tensor, pairs: Pairs) -> None:
    x[17] *= 1000


def _all_equal(x: torch.Tensor, pairs: Pairs) -> None:
    x[:] = x[0].clone()


def _zero_rows(x: torch.Tensor, pairs: Pairs) -> None:
    x[::3] = 0
    x[1] = -0.0
    pairs[0][0][5] = 0
    pairs[1][1][:] = 0


def _denormal(x: torch.Tensor, pairs: Pairs) -> None:
    x[:20] *= 2.0**-128
    pairs[0][0][:] *= 2.0**-130
    pairs[1][1][3] *= 2.0**-130


def _tiny(x: torch.Tensor, pairs: Pairs) -> None:
    x *= 2.0**-45


def _huge(x: torch.Tensor, pairs: Pairs) -> None:
    x[3] *= 2.0**45
    x[4] *= 2.0**120
    pairs[2][1][7] *= 2.0**100


def _not_a_number(x: torch.Tensor, pairs: Pairs) -> None:
    x[5, 7] = torch.nan


def _infinite(x: torch.Tensor, pairs: Pairs) -> None:
    x[5, 7] = torch.inf
    pairs[1][0][2, 3] = -torch.inf


def _negative_gates(x: torch.Tensor, pairs: Pairs) -> None:
    x[:] = x.abs()
    for gate, up in pairs:
        gate[:] = -gate.abs() * 0.2
        up *= 20


def _small_gates(x: torch.Tensor, pairs: Pairs) -> None:
    for gate, up in pairs:
        gate *= 0.02
        up *= 50


def _cancelling(x: torch.Tensor, pairs: Pairs) -> None:
    x[:, 24:] = -x[:, :24]
    for gate, _ in pairs:
        gate[:, 24:] = gate[:, :24] + (gate[:, 24:] * 2.0**-7)


def _one_channel(x: torch.Tensor, pairs: Pairs) -> None:
    x[:, 1:] *= 2.0**-30
    for gate, up in pairs:
        gate[:, 0] *= 2.0**-20
        up[:, 0] *= 2.0**-20


def _in_common(x: torch.Tensor, pairs: Pairs) -> None:
    x += 8 * x[0].clone()


KINDS = {
    "plain": lambda x, pairs: None, "outliers": _outliers, "one token": _one_token,
    "all equal": _all_equal, "zero rows": _zero_rows, "denormal": _denormal, "tiny": _tiny, "huge": _huge,
    "not a number": _not_a_number, "infinite": _infinite, "negative gates": _negative_gates,
    "small gates": _small_gates, "cancelling": _cancelling, "one channel": _one_channel,
    "in common": _in_common,
}  # fmt: skip


def drawn(kind: str, seed: int, tokens: int = TOKENS) -> tuple[torch.Tensor, Pairs]:
    """BF16 rows [tokens, CHANNELS], and each expert's gate and up [NEURONS, CHANNELS]."""
    torch.manual_seed(seed)
    x = torch.randn(tokens, CHANNELS)
    pairs = [
        (torch.randn(NEURONS, CHANNELS) * 0.3, torch.randn(NEURONS, CHANNELS) * 0.3) for _ in range(EXPERTS)
    ]
    KINDS[kind](x, pairs)
    return x.bfloat16(), [(gate.bfloat16(), up.bfloat16()) for gate, up in pairs]


def exact(x: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """|silu(x·gate) · (x·up)| as torch computes it in BF16, float32 [experts, tokens, neurons]."""
    return torch.stack([silu(x @ gate.T) * (x @ up.T) for gate, up in pairs]).float().abs()
