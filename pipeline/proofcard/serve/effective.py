"""The effective settings of a running engine, compared with the requested ones.

SGLang reports its resolved arguments at /server_info, vLLM in its log. Neither reports that it loaded KV
scales, only that it did not, each in its own way; SGLang warns of "scaling factors of 1.0" even when it has.
"""

import re
from pathlib import Path
from typing import Any

from proofcard.checkpoint.tensors import read_folder
from proofcard.config.serving import Serving
from proofcard.documents.serving import Setting
from proofcard.progress import console
from proofcard.reports import Section
from proofcard.screen import quoted
from proofcard.serve import client
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.logs import both_ends
from proofcard.tracking import Tracker

# Patterns in a log; tests/serve/test_effective.py also looks for them in the engine's sources.
SGLANG_POOL = r"KV Cache is allocated\. dtype: torch\.(\w+), #tokens: (\d+)"
SGLANG_LOST = r"\.[kv]_scale is not loaded"
VLLM_ATTENTION = r"Using (?:AttentionBackendEnum\.)?(\w+) (?:attention backend out of|backend\.)"
VLLM_EXPERTS = r"Using '([^']+)' NvFp4 MoE backend"
VLLM_TOKENS = r"GPU KV cache size: ([\d,]+) tokens"
VLLM_UNSCALED = r"Using KV cache scaling factor 1\.0 for fp8_e4m3"
VLLM_CONFIG = r"Initializing a V1 LLM engine \(v(\S+)\) with config: (.*)"

_SGLANG_FIELDS = {
    "tp": "tp_size",
    "tensor_parallel_size": "tp_size",
    "ep": "ep_size",
    "expert_parallel_size": "ep_size",
    "fp4_gemm_backend": "fp4_gemm_runner_backend",
}
_SGLANG_TOLD = ("attention_backend", "kv_cache_dtype", "moe_runner_backend", "sampling_backend")
_VLLM_FIELDS = {
    "kv_cache_dtype": "kv_cache_dtype",
    "max_model_len": "max_seq_len",
    "quantization": "quantization",
    "tensor_parallel_size": "tensor_parallel_size",
}
_FUSION = "enable_flashinfer_allreduce_fusion"  # deprecated: SGLang turns it into another field
_ALIKE = {"bfloat16": "bf16", "float8_e4m3fn": "fp8_e4m3", "fp8": "fp8_e4m3", "float8_e5m2": "fp8_e5m2"}


def setting(name: str, asked: str | None, effective: str | None) -> Setting:
    """A setting, and whether the engine does not do what was requested."""
    differs = asked not in (None, "auto") and effective is not None and _plain(asked) != _plain(effective)
    return Setting(name=name, requested=asked, effective=effective, differs=differs)


def settings(serving: Serving, endpoint: Endpoint, checkpoint: Path) -> list[Setting]:
    """The settings of the running engine; empty for transformers, which changes nothing by itself."""
    if serving.engine == "transformers":
        return []
    scales = any(name.endswith(".k_scale") for name in read_folder(checkpoint))
    log = both_ends(endpoint.log)
    if serving.engine == "vllm":
        return vllm(serving, log, scales)
    try:
        info = client.look(endpoint.url.removesuffix("/v1") + "/server_info", endpoint.api_key)
    except client.NoAnswer as error:
        console.print(f"cannot read SGLang's settings: {error}", soft_wrap=True)
        info = {}
    return sglang(serving, info, log, scales)


def sglang(serving: Serving, info: dict[str, Any], log: str, scales: bool) -> list[Setting]:
    """The profile's flags and the backends, compared with SGLang's /server_info and log."""
    states = info.get("internal_states")
    first = states[0] if isinstance(states, list) and states else None
    state: dict[str, Any] = first if isinstance(first, dict) else {}
    asked = {_field(name, _SGLANG_FIELDS): value for name, value in serving.flags.items()}
    if asked.pop(_FUSION, False):
        asked["flashinfer_allreduce_fusion_backend"] = "auto"
    names = [*asked, *(name for name in _SGLANG_TOLD if name not in asked)]
    reported = info | state  # a scheduler's own values are the later ones
    settings = [setting(name, _text(asked.get(name)), _text(reported.get(name))) for name in names]
    pool = re.findall(SGLANG_POOL, log)
    tokens = info.get("max_total_num_tokens") or (pool[-1][1] if pool else None)
    running = state.get("effective_max_running_requests_per_dp")
    dtype = None if asked.get("kv_cache_dtype") in (None, "auto") else str(asked["kv_cache_dtype"])
    settings += [
        setting("KV cache in memory", dtype, _ALIKE.get(pool[-1][0], pool[-1][0]) if pool else None),
        setting("KV cache tokens", None, _text(tokens)),
        setting("requests at once", _text(asked.get("max_running_requests")), _text(running)),
    ]
    return settings + _scales(
        _value(settings, "kv_cache_dtype"), scales, re.search(SGLANG_LOST, log) is not None
    )


def vllm(serving: Serving, log: str, scales: bool) -> list[Setting]:
    """The profile's flags and the backends, compared with vLLM's log."""
    config = re.search(VLLM_CONFIG, log)
    reported = dict(re.findall(r"\b(\w++)=([^\s,]+)", config.group(2))) if config else {}
    settings = []
    for name, value in serving.flags.items():
        field = _VLLM_FIELDS.get(name.replace("-", "_"))
        if field is not None:
            settings.append(setting(field, _text(value), reported.get(field)))
    flags = {name.replace("-", "_"): value for name, value in serving.flags.items()}
    for name, flag, pattern in (
        ("attention backend", "attention_backend", VLLM_ATTENTION),
        ("experts", "moe_backend", VLLM_EXPERTS),
        ("KV cache tokens", "", VLLM_TOKENS),
    ):
        line = re.search(pattern, log)
        settings.append(
            setting(name, _text(flags.get(flag)), line.group(1).replace(",", "") if line else None)
        )
    dtype = _value(settings, "kv_cache_dtype")
    return settings + _scales(dtype, scales, re.search(VLLM_UNSCALED, log) is not None)


def _scales(dtype: str | None, held: bool, lost: bool) -> list[Setting]:
    """KV scales, if the cache is in FP8."""
    if dtype is None or not dtype.startswith("fp8"):
        return []
    if not held:
        return [setting("KV scales", None, "1.0, the checkpoint has none")]
    return [setting("KV scales", "the checkpoint's", "1.0, not loaded" if lost else "the checkpoint's")]


def track(settings: list[Setting], tracker: Tracker) -> None:
    """Warn of every difference, and track all settings."""
    for each in settings:
        if each.differs:
            console.print(
                f"warning: {each.name}={each.requested} was requested, but {each.effective} is in effect",
                soft_wrap=True,
            )  # fmt: skip
    tracker.params({"effective": {_key(s.name): s.effective for s in settings if s.effective is not None}})
    tracker.table([each.model_dump() for each in settings], "serve/settings.json")


def section(settings: list[Setting]) -> Section:
    """All settings as a table."""
    rows = [[s.name, s.requested or "", s.effective or "?", "differs" if s.differs else ""] for s in settings]
    differing = sum(each.differs for each in settings)
    summary = (
        f"{differing} of {len(settings)} settings differ from the request." if differing else "As requested."
    )
    return Section("effective settings", summary, ["setting", "requested", "effective", ""], rows)


def _field(flag: str, fields: dict[str, str]) -> str:
    name = flag.replace("-", "_")
    return fields.get(name, name)


def _value(settings: list[Setting], name: str) -> str | None:
    return next((each.effective or each.requested for each in settings if each.name == name), None)


def _text(value: Any) -> str | None:
    """A value as a line of text; lists and objects are truncated."""
    return None if value is None else quoted(str(value), 2000)


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _plain(value: str) -> str:
    """A value normalized for comparison: numbers as numbers, one name per dtype."""
    try:
        return str(float(value))
    except ValueError:
        return _ALIKE.get(value.lower(), value.lower())
