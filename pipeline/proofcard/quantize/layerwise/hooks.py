"""Hooks on what passes through a layer: inputs of its modules, keys and values of its attentions."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from proofcard.errors import Stop


@contextmanager
def watching(
    modules: dict[str, Any], names: Iterable[str], see: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call `see(name, input)` before each named module runs, whether its input is given by name or not."""

    def first(args: Any, named: Any) -> Any:
        return args[0] if args else next(iter(named.values()))

    with ExitStack() as stack:
        for name in names:
            hook = modules[name].register_forward_pre_hook(
                lambda _, args, named, name=name: see(name, first(args, named)), with_kwargs=True
            )
            stack.callback(hook.remove)
        yield


@contextmanager
def answered(forwards: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """Let functions answer for modules' own forward passes."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


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
    """Pass the keys and values [samples, heads, tokens, channels] to callbacks before attention runs.

    Raises:
        Stop: when the attention does not call a function that its module exposes.
    """

    def show(key: Any, value: Any) -> tuple[Any, Any]:
        see_key(key)
        see_value(value)
        return key, value

    with through(attention, show, "use engine=modelopt or kv_cache=none"):
        yield


@contextmanager
def through(attention: Any, change: Callable[[Any, Any], tuple[Any, Any]], otherwise: str) -> Iterator[None]:
    """Let `change` replace the keys and values that reach the attention function.

    Raises:
        Stop: when the attention does not call a function that its module exposes; ends with `otherwise`.
    """
    home = inspect.getmodule(type(attention))
    functions = getattr(home, "ALL_ATTENTION_FUNCTIONS", None)
    chosen = attention.config._attn_implementation
    if functions is None or (chosen == "eager" and not hasattr(home, "eager_attention_forward")):
        raise Stop(
            f"engine=layerwise cannot hook the keys and values of {type(attention).__name__}: {otherwise}"
        )
    original = home.eager_attention_forward if chosen == "eager" else functions[chosen]  # type: ignore[union-attr]

    def around(module: Any, query: Any, key: Any, value: Any, *args: Any, **named: Any) -> Any:
        if module is attention:
            key, value = change(key, value)
        return original(module, query, key, value, *args, **named)

    put = (
        partial(setattr, home, "eager_attention_forward")
        if chosen == "eager"
        else partial(_put, functions, chosen)
    )
    put(around)
    try:
        yield
    finally:
        put(original)


def _put(functions: Any, name: str, function: Any) -> None:
    functions[name] = function
