"""How often Python looks for garbage that refers to itself.

Usually after every 700 new objects, and through all objects now and then. Importing torch, transformers and
ModelOpt makes a million that stay: looking through them again and again takes 2 of the 9 CPU seconds in which
the demo is quantized. Tensors and layers are freed without it, when the last name for them goes.
"""

import gc


def look_seldom() -> None:
    """For processes that are ours from their beginning."""
    gc.set_threshold(20_000, 50, 10)
