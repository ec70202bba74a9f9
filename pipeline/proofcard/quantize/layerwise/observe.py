"""The statistics of one layer: the largest input magnitude of each quantized linear, K and V, token counts.

A magnitude is exact in BF16 and a maximum is the same in every order, so nothing here can round. ModelOpt
takes each weight's amax in every call; here only inputs are looked at.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.structure import Layer

ROUTED, FORCED = 0, 1
"""Rows of a noted amax: of the tokens that the router sent, of those that were forced upon an expert."""


class Observer:
    """Running amax per linear, float32 [2, linears] in the order of `layer.linears`; 0: nothing came."""

    def __init__(self, layer: Layer, device: torch.device) -> None:
        self._amax = torch.zeros((2, len(layer.linears)), dtype=torch.float32, device=device)
        self._index = {name: i for i, name in enumerate(layer.linears)}
        self._seen: dict[int, torch.Tensor] = {}
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self.only: Set[str] = self._index.keys()
        """The linears that count just now."""

    def see(self, name: str, values: torch.Tensor) -> None:
        """Count an input of the linear `name`. Gate and up get the same tensor: it is measured once."""
        if name not in self.only or not values.numel():
            return
        if self._last is None or self._last[0] is not values:
            self._last = (values, _magnitude(values))
        index, value = self._index[name], self._last[1]
        self._seen[index] = torch.maximum(self._seen[index], value) if index in self._seen else value

    def flush(self, way: int) -> None:
        """Take in what was seen since the last time, `ROUTED` or `FORCED`.

        Once a batch and way, so that a GPU gets few small kernels.
        """
        if self._seen:
            where = torch.tensor(list(self._seen), device=self._amax.device)
            before = self._amax[way, where]
            self._amax[way, where] = torch.maximum(before, torch.stack(list(self._seen.values())).float())
        self._seen, self._last = {}, None

    def take(self) -> torch.Tensor:
        """The amax since the last time, on the CPU; it starts again from 0."""
        taken = self._amax.cpu().clone()
        self._amax.zero_()
        return taken


def _magnitude(values: torch.Tensor) -> torch.Tensor:
    """The largest magnitude. One kernel on a GPU, where launches count; on a CPU 25 times slower than two."""
    if values.is_cuda:
        return torch.linalg.vector_norm(values, float("inf"))
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high)


@contextmanager
def watching(
    modules: dict[str, Any], names: Iterable[str], see: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call `see(name, input)` before each named module runs."""
    with ExitStack() as stack:
        for name in names:
            hook = modules[name].register_forward_pre_hook(lambda _, args, name=name: see(name, args[0]))
            stack.callback(hook.remove)
        yield


@contextmanager
def collecting_kv(modules: dict[str, Any], quantizers: dict[str, tuple[Any, Any]]) -> Iterator[None]:
    """Let ModelOpt's own quantizers collect the keys and values that reach the attention function."""
    from modelopt.torch.quantization.model_calib import enable_stats_collection

    with ExitStack() as stack:
        for name, pair in quantizers.items():
            for quantizer in pair:
                enable_stats_collection(quantizer)
            stack.enter_context(intercepted(modules[name], *pair))
        yield


@contextmanager
def intercepted(
    attention: Any, see_key: Callable[[Any], Any], see_value: Callable[[Any], Any]
) -> Iterator[None]:
    """Show the keys and values [samples, heads, tokens, channels] on their way to the attention function.

    Raises:
        Stop: when the attention does not call a function that can be found in its module.
    """
    home = inspect.getmodule(type(attention))
    functions = getattr(home, "ALL_ATTENTION_FUNCTIONS", None)
    chosen = attention.config._attn_implementation
    if functions is None or (chosen == "eager" and not hasattr(home, "eager_attention_forward")):
        raise Stop(
            f"{type(attention).__name__} hides its keys and values from engine=layerwise: "
            "take engine=modelopt or kv_cache=none"
        )
    original = home.eager_attention_forward if chosen == "eager" else functions[chosen]  # type: ignore[union-attr]

    def collect(module: Any, query: Any, key: Any, value: Any, *args: Any, **named: Any) -> Any:
        if module is attention:
            see_key(key)
            see_value(value)
        return original(module, query, key, value, *args, **named)

    put = (
        partial(setattr, home, "eager_attention_forward")
        if chosen == "eager"
        else partial(_put, functions, chosen)
    )
    put(collect)
    try:
        yield
    finally:
        put(original)


def _put(functions: Any, name: str, function: Any) -> None:
    functions[name] = function
