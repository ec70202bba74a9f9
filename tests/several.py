"""Starting the demo with fewer samples, as one process or as several ranks: forked, or by a launcher."""

import os
from pathlib import Path

from forking import Forked
from running import BIN, surroundings
from slurm import free_port

DATASETS = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2")
SMALL = [f"calibration.datasets.{name}.samples=4" for name in (*DATASETS, "llama_nemotron")]
SMALL += ["tracking=off", "hardware.device=cpu"]


def torchrun(count: int) -> list[str]:
    return [
        "env",
        "OMP_NUM_THREADS=1",
        str(BIN / "torchrun"),
        "--standalone",
        f"--nproc-per-node={count}",
        "--no-python",
    ]


def ranks(each: list[list[str]], cwd: Path) -> list[Forked]:
    """The processes that torchrun would start, forked and without it; nobody watches over them.

    `each` has the words of every rank.
    """
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(each))}
    return [
        Forked(
            [str(BIN / words[0]), *words[1:]], cwd, os.environ | surroundings() | port | {"RANK": str(rank)}
        )
        for rank, words in enumerate(each)
    ]


def together(processes: list[Forked]) -> tuple[int, str, str]:
    """As `run`, of several ranks: their largest exit status, and what all have said."""
    said = [process.communicate(timeout=600) for process in processes]
    status = max(abs(process.returncode or 0) for process in processes)
    return status, "".join(out for out, _ in said), "".join(errors for _, errors in said)


def small(*overrides: str) -> list[str]:
    return ["proofcard", "quantize", "output_dir=checkpoint", *SMALL, *overrides]
