"""What this machine cannot do, found before any stage has begun."""

import shlex
from collections.abc import Collection, Iterator

import psutil

from proofcard import gpus
from proofcard.config.running import StageName
from proofcard.config.serving import Serving
from proofcard.disk import free_at
from proofcard.documents.plan import Plan
from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.extras import require
from proofcard.run import stages
from proofcard.run.request import Request
from proofcard.run.target import Target
from proofcard.serve.launch import EXTRA
from proofcard.units import counted, size

_MEASURED: tuple[StageName, ...] = ("serve", "benchmark")


def check(request: Request, plan: Plan, target: Target, to_do: Collection[StageName]) -> None:
    """Refuse what cannot work on this machine.

    Raises:
        Usage: with every reason, and how to leave out the stages that are concerned.
    """
    problems = list(_problems(request, plan, target, to_do))
    if not problems:
        return
    concerned = dict.fromkeys(stage for stage, _ in problems)
    reasons = "; ".join(dict.fromkeys(f"{why}" for _, why in problems))
    advice = ""
    if "quantize" not in concerned:
        skipped = [*request.config.skip, *(stage for stage in concerned if stage not in request.config.skip)]
        given = [word for word in request.given if not word.startswith("skip=")]
        without = shlex.join(["proofcard", "run", *given, f"skip=[{','.join(skipped)}]"])
        advice = f"; to leave out what cannot run here: {without}"
    raise Usage(f"{', '.join(concerned)} cannot run on this machine: {reasons}{advice}")


def _problems(
    request: Request, plan: Plan, target: Target, to_do: Collection[StageName]
) -> Iterator[tuple[StageName, str]]:
    if "quantize" in to_do:
        yield from (("quantize", why) for why in _quantizing(request, plan, target))
    ranked: list[StageName] = [stage for stage in to_do if stages.processes(stage, request) > 1]
    visible = len(gpus.machine({}).gpus) if ranked and request.recipe.hardware.device != "cpu" else 0
    if 0 < visible < request.config.processes:
        why = f"processes={request.config.processes}, and {counted(visible, 'GPU')} here"
        yield from ((stage, why) for stage in ranked)
    measured = [stage for stage in _MEASURED if stage in to_do]
    for why in _serving(request.config.serving, plan) if measured else ():
        yield from ((stage, why) for stage in measured)
    if measured:
        try:
            require("asking a server", "servers")
            from proofcard.serve import truth

            truth.prepare(request.config.truth)
        except Usage as stop:
            yield from ((stage, str(stop)) for stage in measured)
    if "sign" in to_do:
        try:
            require("signing", "sign")
        except Usage as stop:
            yield "sign", str(stop)
    if "benchmark" in to_do:
        try:
            program("bench", "aiperf")
        except Usage as stop:
            yield "benchmark", str(stop)


def _quantizing(request: Request, plan: Plan, target: Target) -> Iterator[str]:
    if request.config.processes > 1 and request.recipe.kv_cache.format == "fp8_affine":
        yield "kv_cache=fp8_affine runs as one process: take kv_cache=fp8, or leave out processes"
    if request.config.processes > 1 and request.recipe.engine.name == "modelopt":
        yield "engine=modelopt runs as one process: take engine=layerwise, or leave out processes"
    memory = plan.work.memory
    layerwise = request.recipe.engine.name == "layerwise"
    on_gpu = request.recipe.hardware.device != "cpu" and bool(gpus.machine({}).gpus)
    disk = (memory.layerwise_disk if layerwise else memory.modelopt_disk) - (
        memory.source if target.source.exists() else 0
    )
    if (free := free_at(target.folder)) < disk:
        yield f"{target.folder.parent} has {size(free)} free, and up to {size(disk)} are needed"
    host = memory.layerwise_host if on_gpu else memory.layerwise_host_without_gpu
    if layerwise and (here := psutil.virtual_memory().total) < host:
        yield f"quantize takes {size(host)} of memory, and this machine has {size(here)}"


def _serving(serving: Serving, plan: Plan) -> Iterator[str]:
    if serving.engine == "transformers":
        try:
            require("serving=transformers_cpu", "serve-cpu")
        except Usage as stop:
            yield str(stop)
        weights, here = 2 * plan.model.parameters, psutil.virtual_memory().total
        if weights > here:
            yield (
                f"serving={serving.name} holds the model in BF16, {size(weights)}, and this machine "
                f"has {size(here)} of memory"
            )
        return
    try:
        program(EXTRA[serving.engine], "python")
    except Usage as stop:
        yield str(stop)
    visible = gpus.machine(serving.environment).gpus
    if not visible:
        yield f"serving={serving.name} needs an NVIDIA GPU, and none is visible"
        return
    here_fit = next((fit for fit in plan.serving if fit.profile.startswith("here: ")), None)
    if here_fit is not None and not here_fit.fits:
        weights = here_fit.weights_per_gpu
        yield (
            f"the checkpoint does not fit on {here_fit.profile.removeprefix('here: ')}: "
            f"{size(weights)} of weights a GPU"
        )
