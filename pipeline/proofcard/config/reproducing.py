"""What `reproduce` may be asked for."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from proofcard.config.schema import Part, Sha256, Tracking


class ReproduceConfig(Part):
    """The whole of `reproduce`'s configuration. One of `checkpoint`, `manifest` and `run` names the record.

    `source`, `datasets` and `samples` say where copies are that the manifest names by digest. `remote_code`
    are the sha256 of Python files that may be run. `device` and `threads` null mean as recorded, where this
    machine can. `ulp_bound` null means what the recorded recipe says. With `strict`, a difference that may
    change bytes stops before the work. Memory in GiB.
    """

    checkpoint: Path | None
    manifest: Path | None
    run: str | None = Field(pattern=r"^[0-9a-zA-Z_-]{1,64}$")
    source: Path | None
    datasets: dict[str, Path]
    samples: Path | None
    remote_code: tuple[Sha256, ...]
    device: Literal["auto", "cpu", "cuda"] | None
    threads: int | None = Field(ge=0)
    activation_memory_gib: float = Field(ge=0)
    ulp_bound: int | None = Field(ge=0)
    strict: bool
    output_dir: Path | None
    report: Path | None
    tracking: Tracking
    work_dir: Path

    @model_validator(mode="after")
    def _one_record(self) -> Self:
        if sum(value is not None for value in (self.checkpoint, self.manifest, self.run)) != 1:
            raise ValueError(
                "one of checkpoint=DIR, manifest=FILE and run=MLFLOW_RUN_ID says what is to be reproduced"
            )
        if self.run is not None and self.tracking.uri is None:
            raise ValueError("run=… is looked up in MLflow: set tracking.uri to the store that has it")
        return self
