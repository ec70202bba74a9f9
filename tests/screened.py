"""`proofcard` with the screen, and stacks, on a CPU: kernels in plain torch, no batch or layer too small.

Arguments as the command's. Says at the end how many experts of how many asked about ran exactly.
"""

import sys

from quantize.layerwise import screen_twin

from proofcard.quantize.layerwise import excerpts, screen, stacked


def put_on() -> list[float]:
    """Put the screen on in this process; the shares of experts that batches flag are added to the list."""
    for module, names in screen_twin.PLACES.items():
        for name in names:
            setattr(module, name, getattr(screen_twin, name))
    screen.available = stacked.pays = lambda device: True  # type: ignore[assignment]
    screen._ROWS = screen._EXPERTS = 1
    excerpts._ROWS, excerpts._COLUMNS = (1, 4, 16, 64), (2, 8, 32)
    shares: list[float] = []
    judge = screen.Screen.judge

    def judged(self: screen.Screen, share: float) -> None:
        shares.append(share)
        judge(self, share)

    screen.Screen.judge = judged  # type: ignore[method-assign]
    return shares


if __name__ == "__main__":
    from proofcard.cli import main

    shares = put_on()
    try:
        main()
    finally:
        print(f"screened {len(shares)} batches, {sum(shares):.2f} ran exactly", file=sys.stderr)
