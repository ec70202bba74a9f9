"""The largest magnitudes of what goes into the quantized linears of a layer."""

from collections.abc import Set

import torch

from proofcard.quantize.layerwise.structure import Layer

ROUTED, FORCED = 0, 1
"""Rows of a recorded amax: over routed tokens, and over tokens that an expert was forced to take."""


class Observer:
    """Running amax per linear, float32 [2, linears] in the order of `layer.linears`; 0 without any input."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        self._amax = torch.zeros((2, len(layer.linears)), dtype=torch.float32, device=device)
        self._index = {name: i for i, name in enumerate(layer.linears)}
        self._seen: dict[int, torch.Tensor] = {}
        self._many: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self._before: dict[str, torch.Tensor] = {}
        self._heard: dict[str, torch.Tensor] = {}
        self._known = False
        self._places: dict[tuple[str, ...], torch.Tensor] = {}
        self.only: Set[str] = self._index.keys()
        """The linears whose inputs are currently recorded."""
        self.dataset = ""
        """What `largest` is asked about."""

    def see(self, name: str, values: torch.Tensor) -> None:
        """Record an input of the linear `name`. Gate and up get the same tensor, which is measured once."""
        if name not in self.only or not values.numel():
            return
        last = self._last  # another thread may replace it
        if last is None or last[0] is not values:
            last = self._last = (values, magnitude(values))
        index, value = self._index[name], last[1]
        self._seen[index] = torch.maximum(self._seen[index], value) if index in self._seen else value

    def note_all(self, linears: tuple[str, ...], magnitudes: torch.Tensor) -> None:
        """Record the largest magnitude of each linear's input, `magnitudes` [linears]; 0 changes nothing."""
        places = [place for place, name in enumerate(linears) if name in self.only]
        if len(places) < len(linears):
            linears, magnitudes = tuple(linears[place] for place in places), magnitudes[places]
        if linears:
            self._many.append((self._where(linears), magnitudes))

    def flush(self, way: int) -> None:
        """Merge what was seen since the last flush into the row `ROUTED` or `FORCED`.

        Done once per batch and row, so that a GPU gets few small kernels.
        """
        if self._seen:
            where = torch.tensor(list(self._seen), device=self._amax.device)
            self._many.append((where, torch.stack(list(self._seen.values()))))
        for where, values in self._many:
            before = self._amax[way, where]
            self._amax[way, where] = torch.maximum(before, values.float())
            self._known = self._known or way == FORCED
        self._seen, self._many, self._last = {}, [], None

    def _where(self, linears: tuple[str, ...]) -> torch.Tensor:
        if linears not in self._places:
            places = [self._index[name] for name in linears]
            self._places[linears] = torch.tensor(places, device=self._amax.device)
        return self._places[linears]

    def largest(self, names: tuple[str, ...]) -> torch.Tensor | None:
        """What an input of each linear has to exceed to change a statistic, float32 on the device.

        Statistics are maxima over a dataset or over everything so far, of both rows: all are at least that.
        """
        if not self._known and self.dataset not in self._before:
            return None
        every = self._amax.amax(dim=0)
        for more in (self._before, self._heard):
            if self.dataset in more:
                every = torch.maximum(every, more[self.dataset])
        return every[self._where(names)]

    def recorded(self, dataset: str) -> torch.Tensor:
        """The largest over a dataset's batches so far, float32 [linears], at least from the second on."""
        now = self._amax.amax(dim=0) if dataset == self.dataset else torch.zeros_like(self._amax[0])
        return torch.maximum(now, self._before[dataset]) if dataset in self._before else now

    def hear(self, dataset: str, largest: torch.Tensor) -> None:
        """Note what another process `recorded`, over batches of a dataset that are before the next one here.

        It goes into the same statistics as that one, so what is below it need not be recorded again.
        """
        largest = largest.to(self._amax.device, non_blocking=True)
        before = self._heard.get(dataset)
        self._heard[dataset] = largest if before is None else torch.maximum(before, largest)

    def take(self, dataset: str = "") -> torch.Tensor:
        """The amax since the last call, over batches of `dataset`, on the CPU; resets it to 0."""
        current = self._amax.cpu().clone()
        if self._known:
            every, before = self._amax.amax(dim=0), self._before.get(dataset)
            self._before[dataset] = every if before is None else torch.maximum(before, every)
        self._amax.zero_()
        self._known = False
        return current


def magnitude(values: torch.Tensor) -> torch.Tensor:
    """The largest magnitude, a scalar. One kernel on a GPU, where launches cost; on a CPU two are 25 times
    faster."""
    if values.is_cuda:
        return torch.linalg.vector_norm(values, float("inf"))
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high)
