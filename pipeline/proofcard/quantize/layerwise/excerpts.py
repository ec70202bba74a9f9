"""Which parts of a product can be computed alone, or in another order, with the bits of the whole product.

The library chooses a kernel by shape: for few rows or columns it may split the sums, which changes their
rounding. So both ways are computed for each shape, on values that would show it, and the bits compared. The
same shape always runs the same kernel, whatever the values.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import linear as product

_ROWS = (64, 256, 1024)
_COLUMNS = (128, 256, 512)
_GAIN = 4  # times as much must the whole have, for it to pay
_Same = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], bool]


class Excerpts:
    """Remembers what was found for each shape."""

    def __init__(self) -> None:
        self._known: dict[tuple[_Same, int, torch.Size, torch.device], tuple[int, ...]] = {}

    def rows(self, count: int, weight: torch.Tensor) -> tuple[int, ...]:
        """The numbers of rows that have the bits of a product of `count` rows, and pay, in order.

        `weight` BF16 [outputs, inputs]; its values are not used.
        """
        return self._sizes(count, weight, _ROWS, count, _rows_alone)

    def columns(self, count: int, weight: torch.Tensor) -> tuple[int, ...]:
        """The numbers of columns of a product of `count` rows that have its bits, and pay, in order."""
        return self._sizes(count, weight, _COLUMNS, 2 * len(weight), _columns_alone)

    def anywhere(self, count: int, weight: torch.Tensor) -> bool:
        """Whether each row of a product of `count` rows has the same bits wherever among them it is.

        Never on a CPU: there the activation between two products may not have.
        """
        return portable(weight.device) and bool(
            self._sizes(count, weight, (count,), _GAIN * count, _moved_alike)
        )

    def _sizes(
        self, count: int, weight: torch.Tensor, sizes: tuple[int, ...], of: int, same: _Same
    ) -> tuple[int, ...]:
        key = (same, count, weight.shape, weight.device)
        if key not in self._known:
            self._known[key] = _found(count, weight, sizes, of, same)
        return self._known[key]


def portable(device: torch.device) -> bool:
    """Whether a function of single values has the same bits for each, wherever it is among them.

    On a CPU what does not fill a vector register takes another way.
    """
    return device.type == "cuda"


def _found(count: int, weight: torch.Tensor, sizes: tuple[int, ...], of: int, same: _Same) -> tuple[int, ...]:
    chance = torch.Generator(weight.device).manual_seed(0)

    def drawn(size: int) -> torch.Tensor:
        shape = (size, weight.shape[1])
        return torch.randn(shape, generator=chance, dtype=torch.bfloat16, device=weight.device)

    try:
        rows, other = drawn(count), drawn(len(weight))
        whole = product(rows, other)
        return tuple(size for size in sizes if _GAIN * size <= of and same(rows, other, whole, size))
    except torch.OutOfMemoryError:
        return ()


def _rows_alone(rows: torch.Tensor, weight: torch.Tensor, whole: torch.Tensor, size: int) -> bool:
    order = _dealt(len(rows), size, rows.device)
    alone = torch.cat([product(rows[places], weight) for places in order])
    return torch.equal(alone, whole[order.flatten()])


def _columns_alone(rows: torch.Tensor, weight: torch.Tensor, whole: torch.Tensor, size: int) -> bool:
    order = _dealt(len(weight), size, rows.device)
    return all(torch.equal(product(rows, weight[places]), whole[:, places]) for places in order)


def _dealt(count: int, size: int, device: torch.device) -> torch.Tensor:
    """Each of `count` places at least once, `size` at a time, neighbours apart."""
    parts = -(-count // size)
    return torch.arange(parts * size, device=device).remainder(count).view(size, parts).T


def _moved_alike(rows: torch.Tensor, weight: torch.Tensor, whole: torch.Tensor, size: int) -> bool:
    """Whether rows have their bits backwards, and in an order by chance: each is in another tile then."""
    by_chance = torch.randperm(size, generator=torch.Generator().manual_seed(0)).to(rows.device)
    orders = torch.arange(size, device=rows.device).flip(0), by_chance
    return all(torch.equal(product(rows[order], weight), whole[order]) for order in orders)
