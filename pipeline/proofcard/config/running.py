"""The configuration of `run`: a recipe and everything its stages need."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, NonNegativeFloat

from proofcard.config.benchmarking import Benchmark
from proofcard.config.evaluating import Evaluation
from proofcard.config.schema import Part, QuantizeConfig
from proofcard.config.serving import Serving, Truth
from proofcard.config.signing import Signer

StageName = Literal[
    "plan",
    "fetch",
    "quantize",
    "verify",
    "analyse",
    "serve",
    "benchmark",
    "evaluate",
    "audit",
    "card",
    "sign",
]
STAGES: tuple[StageName, ...] = get_args(StageName)
"""The stages of `run`, in their order. Each is the command of the same name."""

_NEEDED = ("quantize", "plan")


def _may_be_skipped(name: StageName) -> StageName:
    if name in _NEEDED:
        raise ValueError(f"another stage: without {name} there is nothing to run")
    return name


class Usual(Part):
    """What is usual for one option of `model`.

    `options` are words of the command line that count unless others are given; `seconds` is what stages took
    on the machine `measured_on`.
    """

    options: tuple[str, ...]
    seconds: dict[StageName, NonNegativeFloat]
    measured_on: str


class RunConfig(QuantizeConfig, Signer):
    """The whole of `run`'s configuration.

    `skip` are the stages that are left out, `processes` those of `quantize` and `evaluate`. The licence is
    the card's.
    """

    serving: Serving
    truth: Truth
    benchmark: Benchmark
    evaluation: Evaluation
    skip: tuple[Annotated[StageName, AfterValidator(_may_be_skipped)], ...]
    processes: int = Field(ge=1)
    license: str | None
    license_name: str | None
    license_link: str | None
    usual: dict[str, Usual]

    @property
    def signs(self) -> bool:
        """Whether it is said who signs."""
        return self.key is not None or self.pkcs11 is not None or self.sigstore
