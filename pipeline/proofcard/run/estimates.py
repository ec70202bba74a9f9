"""How long each stage takes and how much disk: from earlier runs, from what is usual, or from the plan."""

from collections.abc import Mapping
from dataclasses import dataclass

from proofcard import documents
from proofcard.config.running import STAGES, StageName
from proofcard.documents.plan import Plan
from proofcard.documents.run import Run
from proofcard.errors import Stop
from proofcard.run.chain import FOLDER
from proofcard.run.request import Request


@dataclass(frozen=True)
class Times:
    """Seconds by stage where they are known, and where they come from."""

    seconds: Mapping[StageName, float]
    origin: str


def times(request: Request, plan: Plan) -> Times:
    """What stages took here at the last runs of the recipe, else what is usual, else the plan's floors."""
    usual = dict(request.usual.seconds) if request.usual is not None else {}
    if last := _last(request):
        return Times(usual | last, "as the last run here")
    if request.usual is not None and usual:
        return Times(usual, request.usual.measured_on)
    here = next((fit for fit in plan.serving if fit.profile.startswith("here: ")), None)
    if here is not None and here.calibration_floor_hours and here.evaluation_floor_hours:
        usual = {
            "quantize": 3600 * here.calibration_floor_hours,
            "evaluate": 3600 * here.evaluation_floor_hours,
        }
        return Times(usual, "matrix products alone, on these GPUs")
    return Times({}, "")


def _last(request: Request) -> dict[StageName, float]:
    folder = request.recipe.work_dir / FOLDER
    names = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns) if folder.is_dir() else []
    found: dict[StageName, float] = {}
    for path in names:
        try:
            run = documents.read(Run, path)
        except (Stop, OSError):
            continue
        if run.recipe == request.recipe.recipe.name:
            took = {stage.name: stage.seconds for stage in run.stages if stage.state == "made"}
            found |= {name: took[name] for name in STAGES if name in took}
    return found


def disk(stage: StageName, request: Request, plan: Plan) -> int | None:
    """Bytes on disk that a stage takes at most; None where it is little."""
    memory = plan.work.memory
    if stage == "fetch":
        return plan.source.download
    if stage == "quantize":
        return memory.export + (memory.hidden_states if request.recipe.engine.name == "layerwise" else 0)
    if stage == "serve" and request.config.serving.engine == "transformers":
        return 2 * plan.model.parameters
    if stage == "evaluate" and request.config.evaluation.text is None:
        texts = request.config.evaluation
        tokens = texts.rows * len(request.recipe.calibration.datasets) * texts.sequence_length
        return plan.evaluation.disk * tokens // max(plan.evaluation.positions, 1)
    return None
