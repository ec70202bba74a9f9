"""Which rows a block gives its experts when all of them are selected, as the forced pass has it.

Learned from one recorded call with `top_k` raised. The block's own code, up to its loop over experts, then
tells of a batch whether every expert gets each of its rows once: so no batch has to go through the loop.
Models differ in the order of an expert's rows: token by token, or slot by slot, which is another order for
every expert.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.replay import Ended, OtherWay, Replay
from proofcard.quantize.layerwise.structure import Block
from proofcard.quantize.layerwise.ways import Recording, Way

_TOKENS = 16  # of the recorded call


@contextmanager
def selecting_all(block: Block, modules: dict[str, Any]) -> Iterator[None]:
    """Raise a block's `top_k` to the number of its experts, as ModelOpt does."""
    owner = modules[block.top_k_owner]
    natural, owner.top_k = owner.top_k, len(block.experts)
    try:
        yield
    finally:
        owner.top_k = natural


class Raised:
    """One block with `top_k` raised; `gated` if its experts are known to be two products and a third."""

    def __init__(self, block: Block, modules: dict[str, Any], gated: bool) -> None:
        self._block, self._modules, self._gated = block, modules, gated
        self._way: Way | None = None

    def learn(self, states: torch.Tensor) -> None:
        """Record a call with the first of these tokens [..., tokens, width]."""
        some = states[..., :_TOKENS, :]
        experts = [self._modules[name] for name in self._block.experts]
        with selecting_all(self._block, self._modules), Recording(experts) as recording:
            self._modules[self._block.name](some)
        self._way = recording.way(some.reshape(-1, some.shape[-1]), either=True)

    def gives_all(self, states: torch.Tensor) -> bool:
        """Whether every expert would get each row of the block's input once. No expert is called."""
        if self._way is None:
            return False
        count, found = len(self._block.experts), [False]

        def look(chosen: torch.Tensor, *_: torch.Tensor) -> None:
            every = torch.arange(count, device=chosen.device)
            if chosen.shape == (states[..., 0].numel(), count):
                found[0] = bool((chosen.sort(dim=1).values == every).all())
            raise Ended

        try:
            with selecting_all(self._block, self._modules), Replay(self._way, None, look):
                self._modules[self._block.name](states)
        except (Ended, OtherWay):
            return found[0]
        except torch.OutOfMemoryError:
            return False
        return False

    def allows(self, rows: torch.Tensor, weight: torch.Tensor, excerpts: Excerpts) -> bool:
        """Whether experts that get all rows as they are give each the bits that it has in the block's order.

        `weight` is that of a product with `rows`: an expert's first two have the same shape.
        """
        assert self._way is not None
        return not self._way.by_slot or (self._gated and excerpts.anywhere(len(rows), weight))
