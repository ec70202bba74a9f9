"""Checks a profile, a checkpoint and the GPUs for what would fail, or not work as requested.

Nothing is started and no weight is read. How SGLang 0.5.17 and vLLM 0.26.0 behave was read in their sources;
`tests/serve` checks this against the sources where possible.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proofcard.config.serving import Serving
from proofcard.gpus import Gpu, Machine, machine
from proofcard.plan.serving_memory import FRACTION as USUAL_FRACTION
from proofcard.plan.serving_memory import kv_bytes, runs, weights_per_gpu
from proofcard.serve import asked, flags
from proofcard.serve.asked import Asked, Facts, facts
from proofcard.serve.findings import Finding, refusal, report, warning

DRIVER = 580  # the first that runs CUDA 13.0, which the torch of both engines is built for
CUDA = "13.0"
_ENOUGH = 64  # concurrent requests: the most that the card measured
_IDLE_MIB = 1024  # used by the driver and a desktop
_NO_FP4 = {"sglang": ("auto", "marlin", "humming"), "vllm": ("auto", "marlin", "humming", "emulation")}


def preflight(serving: Serving, checkpoint: Path, config: dict[str, Any], work_dir: Path) -> list[str]:
    """Print the problems of a start; returns the warnings. Nothing is checked for transformers.

    Raises:
        Usage: when it cannot work; nothing was started.
    """
    if serving.engine == "transformers":
        return []
    found = check(serving, facts(checkpoint, config), machine(serving.environment))
    if any(finding.refuses for finding in found):
        return report(found)  # the parser takes a while
    return report([*found, *flags.check(serving, work_dir)])


def check(serving: Serving, model: Facts, here: Machine) -> list[Finding]:
    """All findings for a profile, a checkpoint and a machine, both refusals and warnings."""
    wanted = Asked(serving)
    if not here.gpus:
        return [
            refusal(
                "gpu_missing",
                f"no NVIDIA GPU is visible, and {wanted.engine} needs one: use a machine with a GPU, or "
                "use serving=transformers_cpu",
            )
        ]
    weakest = min(here.gpus, key=lambda gpu: (gpu.capability, gpu.memory_mib - gpu.used_mib))
    return [
        *_driver(wanted, here),
        *_number_of_gpus(wanted, here),
        *(_architecture(wanted, weakest) if model.nvfp4 else ()),
        *_attention(wanted, weakest),
        *_fusion(wanted, weakest),
        *_kv_cache(wanted, model),
        *_split(wanted, model),
        *_in_use(here),
        *_memory(wanted, model, weakest),
        *_requests(wanted),
        *_reasoning(wanted, model),
    ]


def _driver(wanted: Asked, here: Machine) -> Iterator[Finding]:
    if here.driver is not None and int(here.driver.split(".")[0]) < DRIVER:
        yield refusal(
            "driver_too_old",
            f"driver {here.driver} does not support CUDA {CUDA}, for which {wanted.engine} is built: update "
            f"it to {DRIVER} or newer",
        )


def _number_of_gpus(wanted: Asked, here: Machine) -> Iterator[Finding]:
    number = len(here.gpus)
    if number < wanted.tp:
        yield refusal(
            "gpus_too_few",
            f"{wanted.profile} splits the model over {wanted.tp} GPUs, but {number} are visible: set "
            f"{wanted.override(wanted.spelling(asked.TP))}={number}, or CUDA_VISIBLE_DEVICES",
        )


def _architecture(wanted: Asked, gpu: Gpu) -> Iterator[Finding]:
    how, option = runs(gpu.capability), wanted.spelling(asked.MOE)
    if how == "no":
        yield refusal(
            "fp4_unsupported",
            f"{gpu.name} (SM{gpu.capability}) cannot run NVFP4: native FP4 needs SM100 or SM120, "
            "W4A16 with Marlin SM80; use other GPUs, or serving=transformers_cpu",
        )
    elif how == "W4A16":
        if wanted.moe not in _NO_FP4[wanted.engine]:
            yield refusal(
                "fp4_backend_unsupported",
                f"{gpu.name} (SM{gpu.capability}) has no native FP4, which {option}={wanted.moe} needs: "
                + ("use serving=sglang_hopper, or " if wanted.engine == "sglang" else "")
                + f"set {wanted.override(option)}=marlin",
            )
        yield warning(
            "fp4_emulated",
            f"{gpu.name} (SM{gpu.capability}) has no native FP4: weights are unpacked to BF16 "
            "(W4A16), activations are not quantized, and answers differ from Blackwell's",
        )
    elif wanted.moe == "marlin":
        yield warning(
            "fp4_unused",
            f"{option}=marlin computes in BF16 although {gpu.name} supports FP4: set "
            f"{wanted.override(option)}=flashinfer_cutlass",
        )
    elif gpu.capability >= 120 and wanted.moe.startswith("flashinfer_trtllm"):
        yield refusal(
            "moe_backend_unsupported",
            f"{option}={wanted.moe} needs SM100, but {gpu.name} is SM{gpu.capability}: set "
            f"{wanted.override(option)}=flashinfer_cutlass",
        )


def _attention(wanted: Asked, gpu: Gpu) -> Iterator[Finding]:
    if wanted.engine != "sglang":
        return
    attention = wanted.override("attention-backend")
    if wanted.attention == "fa3" and wanted.kv == "fp8_e5m2":
        yield warning(
            "attention_backend_replaced",
            "SGLang uses triton instead of attention-backend=fa3 when the KV cache is fp8_e5m2: set "
            f"{attention}=triton, or use kv-cache-dtype=fp8_e4m3",
        )
    elif wanted.attention == "fa3" and not 80 <= gpu.capability < 100:
        yield refusal(
            "attention_backend_unsupported",
            f"attention-backend=fa3 needs SM80 to SM90, but {gpu.name} is SM{gpu.capability}: set "
            f"{attention}=triton",
        )
    elif wanted.attention == "trtllm_mha" and gpu.capability // 10 != 10:
        yield refusal(
            "attention_backend_unsupported",
            f"attention-backend=trtllm_mha needs SM100, but {gpu.name} is SM{gpu.capability}: set "
            f"{attention}=triton",
        )
    if wanted.flag("enable-deterministic-inference"):
        yield warning(
            "determinism_not_guaranteed",
            "enable-deterministic-inference covers attention, sampling and reductions, but is not "
            "guaranteed for NVFP4 experts: send the same request twice, in different batches, before you "
            "rely on it",
        )
        if wanted.attention == "flashinfer" or (wanted.attention is None and gpu.capability >= 100):
            yield warning(
                "prefix_cache_disabled",
                "enable-deterministic-inference with attention-backend=flashinfer disables the prefix cache: "
                f"set {attention}=triton",
            )


def _fusion(wanted: Asked, gpu: Gpu) -> Iterator[Finding]:
    names = ("enable-flashinfer-allreduce-fusion", "flashinfer-allreduce-fusion-backend")
    name = next((name for name in names if wanted.flag(name)), None)
    if wanted.engine == "sglang" and name is not None and gpu.capability // 10 not in (9, 10):
        yield warning(
            "fusion_has_no_effect",
            f"{name} has no effect on {gpu.name} (SM{gpu.capability}), only on SM90 and SM100: remove it",
        )


def _kv_cache(wanted: Asked, model: Facts) -> Iterator[Finding]:
    if wanted.engine == "vllm":
        if wanted.kv == "fp8_e5m2" and model.nvfp4:
            yield refusal(
                "kv_dtype_refused",
                "vLLM refuses kv-cache-dtype=fp8_e5m2 with a ModelOpt checkpoint: set "
                "serving.flags.kv-cache-dtype=fp8",
            )
        if model.holds(".k_bias", ".v_bias"):
            yield refusal(
                "kv_bias_unsupported",
                "vLLM cannot load the k_bias and v_bias of an affine KV cache: quantize with kv_cache=fp8, "
                "or use serving=sglang_recommended",
            )
    if not _in_fp8(wanted, model):
        return
    if not model.holds(".k_scale"):
        yield warning(
            "kv_scale_missing",
            f"kv-cache-dtype={wanted.kv}, but the checkpoint has no k_scale: {wanted.engine} uses 1.0, "
            "without calibrating at run time; quantize with kv_cache=fp8, or keep the KV cache in bf16",
        )
    elif model.holds(".k_bias") and wanted.engine == "sglang":
        yield warning(
            "kv_bias_dropped",
            "SGLang drops the k_bias of an affine KV cache, and its k_scale was measured without that bias: "
            "large K values may be clipped; quantize with kv_cache=fp8, or keep the KV cache in bf16",
        )


def _split(wanted: Asked, model: Facts) -> Iterator[Finding]:
    tp, ep = wanted.tp, wanted.ep
    option = wanted.override(wanted.spelling(asked.TP))
    if model.heads % tp:
        yield refusal(
            "heads_indivisible",
            f"{model.heads} attention heads cannot be split over {tp} GPUs: set {option} to a divisor",
        )
    elif model.kv_heads % tp and tp % model.kv_heads:
        yield refusal(
            "kv_heads_indivisible",
            f"{model.kv_heads} KV heads can be neither split evenly over {tp} GPUs nor replicated evenly: "
            f"set {option} to a divisor or a multiple",
        )
    if not model.experts:
        return
    if tp % ep:
        yield refusal(
            "ep_size_unsupported", f"ep-size {ep} does not match {tp} GPUs: set ep-size to 1 or {tp}"
        )
    elif model.experts % ep:
        yield refusal(
            "experts_indivisible",
            f"{model.experts} experts cannot be split into {ep} groups: set ep-size to a divisor",
        )
    elif wanted.moe == "flashinfer_cutlass" and wanted.engine == "sglang" and ep not in (1, tp):
        yield refusal(
            "ep_size_unsupported", f"moe-runner-backend=flashinfer_cutlass needs ep-size 1 or {tp}, not {ep}"
        )
    elif model.expert_width % (16 * (tp // ep)) and model.nvfp4:
        yield refusal(
            "expert_width_indivisible",
            f"experts of width {model.expert_width} cannot be split over {tp // ep} GPUs in blocks of 16: "
            f"set {option} to a smaller number, or raise ep-size",
        )


def _in_use(here: Machine) -> Iterator[Finding]:
    for gpu in here.gpus:
        if gpu.used_mib > _IDLE_MIB:
            yield warning(
                "gpu_in_use",
                f"other processes use {_gib(gpu.used_mib << 20)} of {gpu.name}'s memory: stop them "
                "(nvidia-smi lists them), or the KV cache will be smaller",
            )


def _memory(wanted: Asked, model: Facts, gpu: Gpu) -> Iterator[Finding]:
    name = wanted.spelling(asked.FRACTION)
    fraction = wanted.number(asked.FRACTION, USUAL_FRACTION)
    weights = weights_per_gpu(model.tensors.values(), model.tensors, wanted.tp)
    room = int(gpu.memory_mib * 2**20 * fraction) - (gpu.used_mib << 20) - weights
    if room <= 0:
        where = "one GPU" if wanted.tp == 1 else f"each of {wanted.tp} GPUs"
        yield refusal(
            "weights_too_large",
            f"the weights need {_gib(weights)} on {where}, but {gpu.name} has "
            f"{_gib(gpu.memory_mib * 2**20)}, of which {name} allows {fraction:.0%}: use larger or more GPUs",
        )
        return
    tokens = room // kv_bytes(model.config, wanted.tp, 1 if _in_fp8(wanted, model) else 2)
    option = wanted.spelling(asked.CONTEXT)
    context = int(wanted.number(asked.CONTEXT, model.context))
    if context > model.context:
        yield refusal(
            "context_too_long",
            f"{option}={context} exceeds the model's maximum of {model.context} tokens: set "
            f"{wanted.override(option)}={model.context} or less",
        )
    elif tokens < context:
        sentence = (
            f"with {_gib(weights)} of weights, {gpu.name} has room for about {tokens:,} tokens of KV cache, "
            f"less than one context of {context:,}: set {wanted.override(option)}={tokens} or less"
        )
        yield (
            refusal("kv_cache_too_small", sentence)
            if wanted.engine == "vllm"
            else warning("kv_cache_too_small", sentence)
        )


def _requests(wanted: Asked) -> Iterator[Finding]:
    cap = int(wanted.number(asked.CAP, _ENOUGH))
    if cap < _ENOUGH:
        name = wanted.spelling(asked.CAP)
        yield warning(
            "requests_queue",
            f"{name}={cap}: more requests wait in the queue, so throughput stops growing there; to measure "
            f"more at once, raise {wanted.override(name)}",
        )


def _reasoning(wanted: Asked, model: Facts) -> Iterator[Finding]:
    parser = str(wanted.flag("reasoning-parser"))
    if "append" in parser and "think" in parser and not model.thinks_first:
        yield warning(
            "reasoning_parser_unfit",
            f"reasoning-parser={parser} puts <think> before every answer, but this model's chat template "
            "does not begin answers with thoughts, so they would look unfinished: remove it with "
            "~serving.flags.reasoning-parser",
        )


def _in_fp8(wanted: Asked, model: Facts) -> bool:
    return wanted.kv.startswith("fp8") or (wanted.kv == "auto" and model.kv_fp8)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
