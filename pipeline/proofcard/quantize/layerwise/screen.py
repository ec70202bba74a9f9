"""The screen of the forced pass: which rows of a batch may raise the recorded maximum of which expert.

The forced pass wants one number of each expert, the largest |silu(x·gate) · (x·up)| over all rows. A product
in int8 with a bound on its error shows for nearly every row that it cannot exceed what is already recorded.
The others run as they always did, with as many more as give them the bits of the batch's own products
(`excerpts`). docs/layerwise.md has the proof and what it assumes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.functional import linear as product
from torch.nn.functional import silu

from proofcard.quantize.layerwise.crew import stream_beside
from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.screen_answer import Question

_ROWS = 2048  # of a batch; below, launching the exact products takes as long as their work
_EXPERTS = 8
_RECENT, _MOST_FLAGGED = 8, 0.4  # batches, and the share of products above which all of them are faster
_PAUSE = 8  # batches that are not asked about after that; twice as many the next time
_SAMPLE = 64  # rows whose products are compared with float64
_FACTORS_FROM = 8  # experts whose weights decide the channels' factors
_LARGEST_EXPONENT = 15
_FARTHEST = 2.0**30
_LEAST = 2.0**-100  # a maximum below it counts as none: rounding is relative only to what is normal
ROUNDINGS = (1 + 2**-9) / (1 + 2**-8) ** 3 * (1 - 2**-16)
"""What exceeds a maximum in BF16 has |gate · up| of at least this times the maximum: gate, up and act(gate)
are rounded upwards at most by 1 + 2^-8, and the product at least by half a step from the maximum."""


def available(device: torch.device) -> bool:
    """Whether the screen was measured to pay off on such a device."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


class Screen:
    """The screen of one block. `whole` and `last` name linears as `Forced` has them."""

    def __init__(
        self,
        experts: Sequence[str],
        whole: set[str],
        last: set[str],
        modules: dict[str, Any],
        excerpts: Excerpts,
    ) -> None:
        self._modules, self._experts, self._excerpts = modules, experts, excerpts
        self._whole, self._last = _local(experts, whole), _local(experts, last)
        self._order: tuple[str, str] | None = None
        self._votes: list[torch.Tensor] = []
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._pause, self._left = _PAUSE, 0  # batches: of the next pause, and of this one
        self._products: _Products | None = None
        self.on = self._possible()

    def unseen(self, rows: torch.Tensor) -> bool:
        """Whether it has yet to look at a batch, and could at this one."""
        return self.on and self._order is None and len(rows) >= _ROWS

    def serves(self, rows: torch.Tensor, experts: Sequence[str]) -> bool:
        """Whether it can be asked about such a batch."""
        return self.on and self._order is not None and len(rows) >= _ROWS and len(experts) >= _EXPERTS

    def paused(self) -> bool:
        """Whether the next batch is to take the exact pass; it is one less of the pause then."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def inputs(self, experts: Sequence[str]) -> tuple[str, ...]:
        """The linear in each expert whose input's largest magnitude is in question."""
        return tuple(expert + self._last[0] for expert in experts)

    def whole(self, experts: Sequence[str]) -> list[str]:
        """The linears that take the rows themselves."""
        return [expert + part for expert in experts for part in self._whole]

    @contextmanager
    def looking(self, rows: torch.Tensor) -> Iterator[None]:
        """See in the exact pass of a batch whether every expert computes silu(gate(x)) * up(x), bit by bit.

        Turns the screen off where one does not, or where a product is further from float64's than the bound
        allows.
        """
        if not self.unseen(rows):
            yield
            return
        outputs: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            for expert in self._experts:
                for part in self._whole:
                    hook = self._modules[expert + part].register_forward_hook(
                        lambda _, args, output, part=part: outputs.__setitem__(part, output)
                    )
                    stack.callback(hook.remove)
                hook = self._modules[expert + self._last[0]].register_forward_pre_hook(
                    lambda _, args, expert=expert: self._look(expert, rows, outputs, args[0])
                )
                stack.callback(hook.remove)
            yield
        if self._order is None or not bool(torch.stack(self._votes).all()):
            self.on = False
        self._votes = []

    def fresh(self) -> None:
        """Note that a batch is the first of its kind, which flags every expert."""
        self._recent.clear()
        self._pause, self._left = _PAUSE, 0

    def ask(self, rows: torch.Tensor, experts: tuple[str, ...], largest: torch.Tensor) -> Question | None:
        """Ask which of the `experts` may exceed `largest`, their recorded maxima, float32 [experts].

        None when the device's memory does not hold the int8 weights: then the screen is off.
        """
        weight = self._modules[self.whole(self._experts)[0]].weight
        sizes = self._excerpts.rows(len(rows), weight), self._excerpts.columns(len(rows), weight)
        with self._beside():
            answer = self._answer(rows, experts, largest, max(sizes[0], default=0))
            if answer is None:
                return None
            counts, picked, neurons = answer
            if not counts.is_cuda:
                return Question(rows, experts, largest, *sizes, counts, picked, neurons, None)
            held = torch.empty(counts.shape, dtype=counts.dtype, pin_memory=True)
            held.copy_(counts, non_blocking=True)
            done = torch.cuda.current_stream().record_event()
            return Question(rows, experts, largest, *sizes, held, picked, neurons, done)

    def inner(self, expert: str, rows: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
        """What some neurons of an expert give into its last linear, [rows, neurons]."""
        assert self._order is not None
        weights = [self._modules[expert + part].weight.index_select(0, neurons) for part in self._order]
        gate, up = product(rows, torch.cat(weights)).chunk(2, dim=1)
        return silu(gate.contiguous()) * up.contiguous()

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """On a GPU, a stream for work that fills what the current, more urgent one leaves free."""
        weight = self._modules[self.whole(self._experts)[0]].weight
        if not weight.is_cuda:
            yield
            return
        stream = stream_beside(weight.device)
        stream.wait_stream(torch.cuda.current_stream(weight.device))
        with torch.cuda.stream(stream):
            yield

    def _answer(
        self, rows: torch.Tensor, experts: tuple[str, ...], largest: torch.Tensor, most: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        assert self._order is not None
        if self._products is None or self._products.experts != experts:
            pairs = [tuple(self._modules[expert + part].weight for part in self._order) for expert in experts]
            self._products = None
            try:
                self._products = _Products(experts, pairs, rows)
            except torch.OutOfMemoryError:
                self.on = False
                return None
        return self._products.suspects(rows, largest, most)

    def judge(self, share: float) -> None:
        """Note how many of the rows and experts of a batch ran; pauses while the screen does not pay.

        The n-th batch of a dataset exceeds what the others had with a chance of 1/n: the share falls.
        """
        self._recent.append(share)
        if len(self._recent) == _RECENT and sum(self._recent) / _RECENT > _MOST_FLAGGED:
            self._recent.clear()
            self._left, self._pause = self._pause, 2 * self._pause

    def _possible(self) -> bool:
        """Two plain BF16 products of the same shape that take the expert's input, and one after them."""
        if len(self._whole) != 2 or len(self._last) != 1 or self._last[0] in self._whole:
            return False
        linears = [self._modules[name] for name in self.whole(self._experts)]
        weights = [
            linear.weight for linear in linears if type(linear) is torch.nn.Linear and linear.bias is None
        ]
        kinds = {(weight.shape, weight.dtype, weight.is_contiguous()) for weight in weights}
        if len(weights) != len(linears) or len(kinds) != 1 or not available(weights[0].device):
            return False
        from proofcard.quantize.layerwise.screen_codes import DEEPEST

        ((shape, dtype, contiguous),) = kinds
        aligned = shape[1] % 16 == 0 and not any(weight.data_ptr() % 16 for weight in weights)
        return dtype == torch.bfloat16 and contiguous and aligned and shape[1] <= DEEPEST

    def _look(
        self, expert: str, rows: torch.Tensor, outputs: dict[str, torch.Tensor], taken: torch.Tensor
    ) -> None:
        """Compare one expert's `taken`, the input of its last linear, with what its first two gave."""
        orders = [(self._whole[0], self._whole[1]), (self._whole[1], self._whole[0])]
        if self._order is None and not self._votes:
            right = [order for order in orders if torch.equal(taken, _gated(outputs, order))]
            if len(right) != 1:
                self._votes.append(torch.zeros((), dtype=torch.bool, device=rows.device))
                return
            self._order = right[0]
            self._votes += [self._close(expert + part, rows, outputs[part]) for part in self._whole]
        elif self._order is not None:
            self._votes.append((taken == _gated(outputs, self._order)).all())
        outputs.clear()

    def _close(self, name: str, rows: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Whether the products of some rows are as close to the real ones as the bound takes for granted."""
        from proofcard.quantize.layerwise.screen_codes import gamma

        step = max(1, len(rows) // _SAMPLE)
        x, weight = rows[::step].double(), self._modules[name].weight.double()
        real, size = x @ weight.T, x.abs() @ weight.abs().T
        allowed = real.abs() * 2**-8 + size * (gamma(rows.shape[1]) * (1 + 2**-8)) + 2.0**-100
        return ((output[::step].double() - real).abs() <= allowed).all()


class _Products:
    """The int8 weights of some experts."""

    def __init__(self, experts: tuple[str, ...], pairs: list[Any], rows: torch.Tensor) -> None:
        from proofcard.quantize.layerwise import screen_codes, screen_kernels

        self.experts = experts
        self._codes, self._kernels, self._tiling = screen_codes, screen_kernels, screen_codes.HOPPER
        self._weights = pairs  # the table has their addresses
        self._neurons = len(pairs[0][0])
        self._table = screen_codes.addresses(pairs)
        step = -(-len(pairs) // _FACTORS_FROM)
        self._center = middle(rows)
        sample = [weight for pair in pairs[::step] for weight in pair]
        up = factors(rows - self._center.to(rows.dtype), sample)
        self._coded = screen_codes.code_weights(self._table, self._neurons, self._center, up, self._tiling)
        self._down = 1 / up

    def suspects(
        self, rows: torch.Tensor, largest: torch.Tensor, most: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`counts`, `picked` with `most` rows, and `neurons` of a question."""
        kernels, rows = self._kernels, rows.contiguous()
        tokens = self._codes.code_tokens(rows, self._center, self._down, self._tiling)
        counts, found, marks = kernels.candidates(tokens, self._coded, limits(largest), self._tiling)
        marks = marks[:, : self._neurons]
        neurons = marks.int().argsort(dim=1, descending=True)
        flagged, picked = kernels.recheck(
            rows, self._table, self._neurons, largest, counts, found, most, self._tiling
        )
        return torch.stack([flagged, marks.sum(dim=1, dtype=torch.int32)]), picked, neurons


def limits(largest: torch.Tensor) -> torch.Tensor:
    """A pair whose |gate · up| is below cannot exceed the maxima. 0 for NaN: nothing is below that."""
    return torch.where(largest >= _LEAST, largest * ROUNDINGS, 0.0)


def middle(rows: torch.Tensor) -> torch.Tensor:
    """What rows are taken relative to, float32 [channels]: deep in a model they have a direction in common.

    Any finite vector is right.
    """
    mean = rows.mean(dim=0, dtype=torch.float32)
    return torch.where(mean.abs() < _FARTHEST, mean, 0.0)


def factors(rows: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """What each channel of the weights is multiplied by, and of rows divided by, so that both are more even.

    float32 [channels]. Any positive factors are right; these are SmoothQuant's with equal shares.
    """
    largest = torch.stack([torch.linalg.vector_norm(w, float("inf"), dim=0) for w in weights]).amax(dim=0)
    ratio = torch.linalg.vector_norm(rows, float("inf"), dim=0).float() / largest.float()
    exponent = torch.where((ratio > 0) & (ratio < float("inf")), ratio, 1.0).log2() / 2
    return (exponent - exponent.mean()).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp2()


def _gated(outputs: dict[str, torch.Tensor], order: tuple[str, str]) -> torch.Tensor:
    return silu(outputs[order[0]]) * outputs[order[1]]


def _local(experts: Sequence[str], names: set[str]) -> list[str]:
    """The names of linears within the first expert; the others' are alike."""
    return sorted(name.removeprefix(experts[0]) for name in names if name.startswith(experts[0] + "."))
