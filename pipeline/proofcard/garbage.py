"""How often Python looks for garbage that refers to itself.

Usually it does after every 700 new objects, now and then through all that there are. Importing torch,
transformers and ModelOpt makes half a million that stay: a quarter of the 5 CPU seconds that this takes is
spent on looking through them, a fortieth with the numbers below. Tensors and layers are freed without any of
it, when the last name for them goes.
"""

import gc


def look_seldom() -> None:
    """For processes that are ours from their beginning."""
    gc.set_threshold(5_000, 1_000, 10)
