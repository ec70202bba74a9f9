"""Quantize one source with both engines in every combination, in one process: ModelOpt is slow to import.

    python tests/quantize/both_engines.py FOLDER NAME=OVERRIDE,OVERRIDE… -- SHARED OVERRIDES…

Writes FOLDER/NAME-ENGINE, or FOLDER/NAME-ENGINE.txt with the sentence that stopped it.
"""

import sys
from pathlib import Path

from pipeline.config import QuantizeConfig, compose
from pipeline.errors import Stop
from pipeline.quantize.command import execute


def main(folder: Path, combinations: list[str], shared: list[str]) -> None:
    for combination in combinations:
        name, _, said = combination.partition("=")
        for engine in ("layerwise", "modelopt"):
            where = folder / f"{name}-{engine}"
            overrides = [*shared, *filter(None, said.split(",")), f"engine={engine}", f"output_dir={where}"]
            try:
                execute(compose(QuantizeConfig, "config", [*overrides, "tracking=off", f"work_dir={folder}/runs"]))
            except Stop as stop:
                where.with_suffix(".txt").write_text(str(stop))


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1 :])
