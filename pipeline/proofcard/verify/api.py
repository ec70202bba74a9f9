"""`from proofcard import verify`: a verification from Python, without console, report or tracked run."""

import sys
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from proofcard.config.schema import LEVELS, VerifyConfig
from proofcard.documents.verification import Verification
from proofcard.errors import Usage
from proofcard.inputs import check_input
from proofcard.progress import silent


def verify(
    checkpoint: str | PathLike[str],
    source: str | PathLike[str] | None = None,
    *,
    levels: Sequence[str] | None = None,
    samples: str | PathLike[str] | None = None,
    public_key: str | PathLike[str] | None = None,
    scales: str = "derived",
    work_dir: str | PathLike[str] = "runs",
) -> Verification:
    """The outcome of a verification, as the document that `proofcard verify` writes.

    `checkpoint` and `source` are folders, or addresses `hf://OWNER/NAME@COMMIT`; what comes from the hub is
    kept below `work_dir` while it is checked. `levels` None are those that the given inputs allow, as on the
    command line; `public_key` is who must have signed it. A checkpoint that differs is a result like any
    other: see `result` and `levels`.

    Raises:
        Usage: when an input does not exist, or a level or its inputs are not what they have to be.
        Stop: when the hub refuses or cannot be reached.
    """
    from proofcard.verify import outcome_of

    given = {"checkpoint": checkpoint, "source": source, "samples": samples, "public_key": public_key}
    places = {key: None if path is None else fspath(path) for key, path in given.items()}
    for key, path in places.items():
        if path is not None and not path.startswith("hf://"):
            check_input(key, Path(path))
    try:
        config = VerifyConfig.model_validate(
            {**places, "levels": levels, "scales": scales, "report": None, "work_dir": work_dir}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise Usage(f"{fault['loc'][0]}={fault['input']!r}: choose from {', '.join(LEVELS)}") from None
    with silent():
        return outcome_of(config)[0]


class _Callable(ModuleType):
    """The package `proofcard.verify`, which is called like the function of that name."""

    __call__ = staticmethod(verify)


def make_callable(module: str) -> None:
    """Let a module be called as `verify` is."""
    sys.modules[module].__class__ = _Callable
