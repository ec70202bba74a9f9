"""What runs beside what was asked, from what the engines really tell."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from serve.engines import packages, profile, source

from proofcard.config.schema import Tracking
from proofcard.screen import on_one_line
from proofcard.serve import effective
from proofcard.serve.effective import Setting
from proofcard.tracking import Tracker, opened


def fields() -> dict[str, Any]:
    """The fields of SGLang's ServerArgs, which /server_info gives, with their literal defaults."""
    tree = ast.parse(source("sglang", "sglang/srt/server_args.py"))
    (args,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ServerArgs")
    found = {}
    for node in args.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = node.value if isinstance(node.value, ast.Constant) else None
            found[node.target.id] = default.value if default else None
    return found


def info(**resolved: Any) -> dict[str, Any]:
    defaults = fields()
    unknown = {name for name in resolved if name not in defaults}
    assert not unknown, f"SGLang has no {unknown} any more"
    state = {"effective_max_running_requests_per_dp": 16, "memory_usage": {"token_capacity": 198_000}}
    return defaults | resolved | {"max_total_num_tokens": 198_000, "internal_states": [state]}


def published(**changed: Any) -> dict[str, Any]:
    said = {
        "trust_remote_code": True, "tp_size": 2, "ep_size": 2, "quantization": "modelopt_fp4",
        "mem_fraction_static": 0.9, "context_length": 131072, "max_running_requests": 16,
        "chunked_prefill_size": 8192, "kv_cache_dtype": "fp8_e5m2", "attention_backend": "triton",
        "moe_runner_backend": "flashinfer_cutlass", "disable_custom_all_reduce": True,
        "flashinfer_allreduce_fusion_backend": "auto", "tool_call_parser": "minimax-m2",
        "reasoning_parser": "minimax-append-think", "sampling_backend": "flashinfer",
    }  # fmt: skip
    return info(**said | changed)


def by_name(found: list[Setting]) -> dict[str, Setting]:
    return {setting.name: setting for setting in found}


POOL = "[2026-01-01] KV Cache is allocated. dtype: torch.float8_e5m2, #tokens: 198000, K size: 5.86 GB"


def test_sglang_replaces_the_card_s_attention_and_nothing_else() -> None:
    found = effective.sglang(profile("sglang_published"), published(), POOL, scales=True)
    assert [setting.name for setting in found if setting.differs] == ["attention_backend"]
    said = by_name(found)
    assert (said["attention_backend"].requested, said["attention_backend"].effective) == ("fa3", "triton")
    assert said["KV cache tokens"].effective == "198000"
    assert said["KV cache in memory"].effective == "fp8_e5m2"
    backend = said["sampling_backend"]
    assert (backend.requested, backend.effective) == (None, "flashinfer")
    assert said["KV scales"].effective == "the checkpoint's"


def test_scales_that_sglang_did_not_load_are_a_difference() -> None:
    lost = (
        "Found .k_scale in the checkpoint (e.g. model.layers.0.self_attn.k_proj.k_scale), but not found the "
        "expected name in the model (e.g. model.layers.0.self_attn.attn.k_scale). .k_scale is not loaded."
    )
    serving = profile("sglang_published")
    assert by_name(effective.sglang(serving, published(), lost, scales=True))["KV scales"].differs
    without = by_name(effective.sglang(serving, published(), lost, scales=False))["KV scales"]
    assert (without.differs, without.effective) == (False, "1.0, the checkpoint has none")
    bf16 = effective.sglang(profile("sglang_baseline"), info(kv_cache_dtype="bfloat16"), "", scales=True)
    assert "KV scales" not in by_name(bf16)
    assert not by_name(bf16)["kv_cache_dtype"].differs


def test_what_was_left_to_the_engine_is_no_difference() -> None:
    serving = profile("sglang_recommended", {"kv-cache-dtype": "auto"})
    found = by_name(effective.sglang(serving, info(kv_cache_dtype="fp8_e4m3"), "", scales=True))
    assert (found["kv_cache_dtype"].differs, found["kv_cache_dtype"].effective) == (False, "fp8_e4m3")
    assert found["KV scales"].effective == "the checkpoint's"


def test_what_sglang_does_not_tell_is_no_difference() -> None:
    found = effective.sglang(profile("sglang_recommended"), {}, "", scales=True)
    assert not any(setting.differs for setting in found)
    assert by_name(found)["attention_backend"].effective is None


VLLM = """\
INFO [core.py:117] Initializing a V1 LLM engine (v0.26.0) with config: model='/m', max_seq_len=65536, \
tensor_parallel_size=2, quantization=modelopt_fp4, kv_cache_dtype=fp8, seed=0
INFO [cuda.py:483] Using FLASHINFER attention backend out of potential backends: ['FLASHINFER'].
INFO [nvfp4.py:239] Using 'FLASHINFER_CUTLASS' NvFp4 MoE backend out of potential backends: ['MARLIN'].
INFO [kv_cache_utils.py:2177] GPU KV cache size: 401,232 tokens
"""


def test_vllm_s_log_tells_what_runs() -> None:
    serving = profile("vllm")
    found = by_name(effective.vllm(serving, VLLM, scales=True))
    assert found["attention backend"].effective == "FLASHINFER"
    assert found["experts"].effective == "FLASHINFER_CUTLASS"
    assert found["KV cache tokens"].effective == "401232"
    assert [name for name, setting in found.items() if setting.differs] == ["max_seq_len"]
    unscaled = VLLM + "WARNING Using KV cache scaling factor 1.0 for fp8_e4m3. If this is unintended"
    assert by_name(effective.vllm(serving, unscaled, scales=True))["KV scales"].differs


def test_differences_are_told_and_tabled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = effective.sglang(profile("sglang_published"), published(), POOL, scales=True)
    with opened(Tracking(uri=None, experiment="x"), "x", tmp_path) as tracker:
        effective.track(found, tracker)
    section = effective.section(found)
    assert "warning: attention_backend=fa3 was requested, but triton is in effect" in capsys.readouterr().err
    assert ["attention_backend", "fa3", "triton", "differs"] in section.rows


# Each log line that is read, as the engine's source writes it.
LINES = [
    ("sglang", "sglang/srt/mem_cache/memory_pool.py", "is allocated. dtype: {self.dtype}, "),
    ("sglang", "sglang/srt/mem_cache/memory_pool.py", "#tokens: {num_tokens}, K size: "),
    ("sglang", "sglang/srt/model_loader/weight_utils.py", "(e.g. {remapped_name}). {scale_name} is "),
    ("sglang", "sglang/srt/model_loader/weight_utils.py", '".k_scale", ".v_scale"'),
    ("sglang", "sglang/srt/entrypoints/http_server.py", '@app.get("/server_info")'),
    ("sglang", "sglang/srt/managers/scheduler.py", '"max_total_num_tokens": self.max_total_num_tokens'),
    ("sglang", "sglang/srt/managers/scheduler.py", 'ret["effective_max_running_requests_per_dp"]'),
    ("vllm", "vllm/platforms/cuda.py", "Using %s attention backend out of potential backends"),
    ("vllm", "vllm/platforms/cuda.py", "Using %s backend."),
    ("vllm", "vllm/model_executor/layers/fused_moe/oracle/nvfp4.py", "' NvFp4 MoE backend out "),
    ("vllm", "vllm/v1/core/kv_cache_utils.py", "GPU KV cache size: %s tokens"),
    ("vllm", "vllm/v1/engine/core.py", "Initializing a V1 LLM engine (v%s) with config: %s"),
    ("vllm", "vllm/config/vllm.py", 'f"kv_cache_dtype={self.cache_config.cache_dtype}, "'),
    ("vllm", "vllm/config/vllm.py", 'f"max_seq_len={self.model_config.max_model_len}, "'),
    (
        "vllm",
        "vllm/model_executor/layers/quantization/kv_cache.py",
        "Using KV cache scaling factor 1.0 for fp8_e4m3",
    ),
]


@pytest.mark.parametrize(("engine", "file", "text"), LINES)
def test_the_engine_still_writes_the_lines_that_are_read(engine: str, file: str, text: str) -> None:
    assert text in source(engine, file)


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_the_engine_s_torch_is_built_for_the_cuda_whose_driver_is_asked_for(engine: str) -> None:
    from proofcard.serve.preflight import CUDA

    said = (packages(engine) / "torch/version.py").read_text()
    assert re.search(r"^cuda.*= '(.*)'", said, re.MULTILINE).group(1) == CUDA  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "told",
    [
        {"internal_states": "x"}, {"internal_states": 7}, {"internal_states": {}},
        {"internal_states": [None]}, {"internal_states": ["x"]}, {"internal_states": [[]]},
        {"internal_states": [{}, 7]},
        {"attention_backend": {"a": ["b"] * 10_000}}, {"tp_size": [2]}, {"kv_cache_dtype": 10**400},
        {"kv_cache_dtype": "[/INST]\x1b[2J\nfp8"}, {"max_total_num_tokens": -1},
        {"max_total_num_tokens": True},
        {"internal_states": [{"effective_max_running_requests_per_dp": {"a": 1}}]},
    ],
    ids=lambda told: str(told)[:40],
)  # fmt: skip
def test_any_info_of_a_server_is_told_as_text(told: dict[str, Any]) -> None:
    found = effective.sglang(profile("sglang_recommended"), told, "", scales=True)
    effective.track(found, Tracker(None))
    section = effective.section(found)
    assert all(cell == on_one_line(cell) and len(cell) <= 2000 for row in section.rows for cell in row)
