"""Each machine of the card's table, and some others, beside each profile: what is refused or warned of."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from serve.engines import profile, source

from proofcard.bundle import bundled
from proofcard.checkpoint.tensors import BITS, Tensor
from proofcard.config.serving import Flag
from proofcard.errors import Usage
from proofcard.gpus import Gpu, Machine
from proofcard.plan.serving_memory import profiles as hardware
from proofcard.serve.asked import Facts, facts
from proofcard.serve.findings import refusal, report, warning
from proofcard.serve.preflight import check, preflight

CONFIG = json.loads(bundled("conf/model/minimax_m2_7/config.json").read_text())
LAYERS, HIDDEN, EXPERTS, WIDTH, WORDS = 62, 3072, 256, 1536, 200_064


def tensor(name: str, dtype: str, *shape: int) -> Tensor:
    size = prod(shape) * np.dtype(BITS[dtype]).itemsize
    return Tensor(name, Path("model.safetensors"), dtype, shape, 0, size)


def minimax(scales: bool = True, biases: bool = False, attention: str = "BF16") -> Facts:
    """MiniMax-M2.7 in NVFP4: the tensors of one kind of all layers as one."""
    numbers = LAYERS * EXPERTS * 3 * HIDDEN * WIDTH
    tensors = [
        tensor("experts.weight", "U8", numbers // HIDDEN, HIDDEN // 2),
        tensor("experts.weight_scale", "F8_E4M3", numbers // HIDDEN, HIDDEN // 16),
        tensor("self_attn.weight", attention, LAYERS * 2 * (48 + 8) * 128, HIDDEN),
        tensor("embed_tokens.weight", "BF16", 2 * WORDS, HIDDEN),
        tensor("block_sparse_moe.gate.weight", "BF16", LAYERS * EXPERTS, HIDDEN),
        *([tensor("self_attn.k_proj.k_scale", "F32")] if scales else []),
        *([tensor("self_attn.k_proj.k_bias", "BF16", 1024)] if biases else []),
    ]
    return Facts(CONFIG, {each.name: each for each in tensors}, nvfp4=True, kv_fp8=scales)


THINKS_LATER = replace(minimax(), thinks_first=False)


def several(number: int, name: str, capability: int, memory_mib: int, driver: str = "580.95.05") -> Machine:
    return Machine((Gpu(name, capability, memory_mib),) * number, driver)


CARD = {
    each.name: several(each.gpus, each.name[3:], each.compute_capability, each.memory_mib)
    for each in hardware()
}
RTX_6000, RTX_5090 = CARD["2× RTX PRO 6000"], CARD["4× RTX 5090"]
H200, B200 = CARD["4× H200"], CARD["2× B200"]
L40S = several(4, "L40S", 89, 46068)
A100 = several(4, "A100 80GB", 80, 81920)
T4 = several(16, "T4", 75, 15360)
H100 = several(1, "H100", 90, 81559)

REPLACED = "SGLang uses triton instead of attention-backend=fa3 when the KV cache is fp8_e5m2"
NOT_FUSED = "enable-flashinfer-allreduce-fusion has no effect on RTX PRO 6000 (SM120)"
SIXTEEN = "max-running-requests=16: more requests wait"
UNPACKED = "has no native FP4: weights are unpacked to BF16"
TWO, FOURFOLD = {"tp-size": 2}, {"tp-size": 4, "ep-size": 4}

Case = tuple[str, Machine, dict[str, Flag], str | None, list[str]]
TABLE_OF_THE_CARD: list[Case] = [
    ("sglang_published", RTX_6000, {}, None, [REPLACED, NOT_FUSED, SIXTEEN]),
    ("sglang_baseline", RTX_6000, {}, None, [NOT_FUSED, SIXTEEN]),
    ("sglang_recommended", RTX_6000, {}, None, []),
    ("sglang_deterministic", RTX_6000, {}, None, ["is not guaranteed for NVFP4 experts"]),
    ("vllm", RTX_6000, {}, None, []),
    ("sglang_hopper", RTX_6000, TWO, "=fa3 needs SM80 to SM90, but RTX PRO 6000 is SM120: set", []),
    ("sglang_recommended", RTX_5090, FOURFOLD, "need 31.4 GiB on each of 4 GPUs, but RTX 5090 has 31.8", []),
    ("sglang_published", RTX_5090, {"tp": 4, "ep": 4}, "the weights need 31.4 GiB on each of 4 GPUs", []),
    ("vllm", RTX_5090, {"tensor-parallel-size": 4}, "of which gpu-memory-utilization allows 95%", []),
    ("sglang_hopper", H200, {}, None, [UNPACKED]),
    ("sglang_recommended", H200, {}, "=flashinfer_cutlass needs: use serving=sglang_hopper, or set", []),
    ("sglang_published", H200, {}, "no native FP4, which moe-runner-backend=flashinfer_cutlass needs", []),
    ("vllm", H200, {}, None, [UNPACKED]),
    ("vllm", H200, {"moe-backend": "cutlass"}, "which moe-backend=cutlass needs: set serving.flags.moe-", []),
    ("sglang_recommended", B200, {}, None, []),
    ("sglang_published", B200, {}, None, [REPLACED, SIXTEEN]),
    ("vllm", B200, {}, None, []),
    ("sglang_hopper", B200, {}, "over 4 GPUs, but 2 are visible: set serving.flags.tp-size=2", []),
]
OTHER_MACHINES: list[Case] = [
    ("sglang_hopper", L40S, {}, None, [UNPACKED]),
    ("sglang_hopper", A100, {}, None, [UNPACKED]),
    (
        "sglang_hopper",
        H100,
        {"tp-size": 1},
        "the weights need 125.2 GiB on one GPU, but H100 has 79.6 GiB",
        [],
    ),
    ("sglang_recommended", T4, {}, "T4 (SM75) cannot run NVFP4: native FP4 needs SM100", []),
    ("vllm", Machine((), None), {}, "no NVIDIA GPU is visible, and vllm needs one", []),
    ("vllm", replace(RTX_6000, driver="570.124.06"), {}, "570.124.06 does not support CUDA 13.0", []),
]
B200_5, B200_4 = (several(number, "B200", 100, 183359) for number in (5, 4))
CUDNN = {"attention-backend": "flashinfer"}
LESS = "tokens of KV cache, less than one context of 131,072: set serving.flags."
FLAGS: list[Case] = [
    ("sglang_recommended", RTX_6000, {"attention-backend": "fa3"}, "fa3 needs SM80 to SM90", []),
    ("sglang_recommended", RTX_6000, {"attention-backend": "trtllm_mha"}, "needs SM100, but RTX", []),
    ("sglang_recommended", RTX_6000, {"moe-runner-backend": "flashinfer_trtllm"}, "needs SM100", []),
    ("sglang_recommended", B200, {"moe-runner-backend": "marlin"}, None, ["BF16 although B200"]),
    ("sglang_deterministic", RTX_6000, CUDNN, None, ["is not guaranteed", "disables the prefix cache"]),
    ("sglang_recommended", H200, {"tp-size": 3, "ep-size": 3}, "needs: use", []),
    ("sglang_hopper", H200, {"tp-size": 3}, "8 KV heads can be neither split evenly over 3 GPUs nor", []),
    ("vllm", B200_5, {"tensor-parallel-size": 5}, "48 attention heads cannot be split over 5 GPUs", []),
    ("sglang_recommended", RTX_6000, {"ep-size": 3}, "ep-size 3 does not match 2 GPUs", []),
    ("sglang_recommended", B200_4, {"tp-size": 4}, "flashinfer_cutlass needs ep-size 1 or 4, not 2", []),
    ("vllm", RTX_6000, {"kv-cache-dtype": "fp8_e5m2"}, "vLLM refuses kv-cache-dtype=fp8_e5m2", []),
    ("sglang_recommended", RTX_6000, {"context-length": 300000}, "maximum of 196608 tokens", []),
    ("sglang_recommended", RTX_6000, {"mem-fraction-static": 0.72}, None, [LESS + "context-length="]),
    ("vllm", RTX_6000, {"gpu-memory-utilization": 0.72}, LESS + "max-model-len=", []),
]


@pytest.mark.parametrize(
    ("name", "here", "changed", "refused", "warned"), TABLE_OF_THE_CARD + OTHER_MACHINES + FLAGS
)
def test_what_does_not_fit_is_said_with_its_remedy(
    name: str, here: Machine, changed: dict[str, Flag], refused: str | None, warned: list[str]
) -> None:
    found = check(profile(name, changed), minimax(), here)
    refusals = [finding.sentence for finding in found if finding.refuses]
    warnings = [finding.sentence for finding in found if not finding.refuses]
    assert all("\n" not in finding.sentence and len(finding.sentence) < 260 for finding in found)
    if refused is not None:
        assert refused in refusals[0]
        return
    assert refusals == []
    assert len(warnings) == len(warned)
    for sentence, expected in zip(warnings, warned, strict=True):
        assert expected in sentence


@pytest.mark.parametrize(
    ("name", "model", "refused", "sentence"),
    [
        (
            "sglang_recommended",
            minimax(scales=False),
            False,
            "the checkpoint has no k_scale: sglang uses 1.0",
        ),
        ("vllm", minimax(scales=False), False, "the checkpoint has no k_scale: vllm uses 1.0"),
        ("sglang_recommended", minimax(biases=True), False, "SGLang drops the k_bias of an affine KV cache"),
        ("vllm", minimax(biases=True), True, "vLLM cannot load the k_bias and v_bias of an affine KV cache"),
    ],
)
def test_the_kv_cache_of_the_checkpoint(name: str, model: Facts, refused: bool, sentence: str) -> None:
    (found,) = check(profile(name), model, RTX_6000)
    assert (found.refuses, sentence in found.sentence) == (refused, True)


def test_a_cache_in_bf16_needs_no_scales_and_takes_twice_the_room() -> None:
    serving = profile("sglang_recommended", {"kv-cache-dtype": "bf16"})
    assert check(serving, minimax(scales=False), RTX_6000) == []
    tight = [serving.model_copy(update={"flags": serving.flags | {"mem-fraction-static": 0.78}})]
    tight += [tight[0].model_copy(update={"flags": tight[0].flags | {"kv-cache-dtype": "fp8_e4m3"}})]
    assert [len(check(each, minimax(), RTX_6000)) for each in tight] == [1, 0]


@pytest.mark.parametrize("name", ["sglang_hopper", "vllm"])
def test_a_parser_that_opens_thoughts_fits_a_template_that_does(name: str) -> None:
    here = H200 if name == "sglang_hopper" else RTX_6000
    (without,) = [each for each in check(profile(name), THINKS_LATER, here) if "reasoning" in each.name]
    assert not without.refuses
    assert "remove it with ~serving.flags.reasoning-parser" in without.sentence
    assert not [each for each in check(profile(name), minimax(), here) if "reasoning" in each.name]
    other = profile(name, {"reasoning-parser": "qwen3"})
    assert not [each for each in check(other, THINKS_LATER, here) if "reasoning" in each.name]


def test_memory_that_others_have_is_not_counted_on() -> None:
    half = Machine((replace(RTX_6000.gpus[0], used_mib=20_000), RTX_6000.gpus[1]), RTX_6000.driver)
    (others, context) = check(profile("sglang_recommended"), minimax(), half)
    assert others.sentence.startswith("other processes use 19.5 GiB of RTX PRO 6000's memory: stop them")
    assert "less than one context of 131,072" in context.sentence
    full = Machine((replace(RTX_6000.gpus[0], used_mib=40_000),) * 2, RTX_6000.driver)
    with pytest.raises(Usage, match=r"the weights need 62\.6 GiB"):
        report(check(profile("sglang_recommended"), minimax(), full))


def test_attention_in_f32_is_served_in_bf16() -> None:
    serving = profile("sglang_recommended", {"mem-fraction-static": 0.71})
    (small,) = check(serving, minimax(), RTX_6000)
    (large,) = check(serving, minimax(attention="F32"), RTX_6000)
    assert small == large


def test_a_small_model_that_is_not_nvfp4_is_asked_nothing_about_fp4() -> None:
    model = replace(minimax(), nvfp4=False)
    assert not any("FP4" in finding.sentence for finding in check(profile("vllm"), model, H200))


def test_a_checkpoint_s_own_files_say_what_it_is(tmp_path: Path) -> None:
    import numpy as np

    save_file({"a.k_scale": np.zeros((), np.float32)}, tmp_path / "model.safetensors")
    said: dict[str, Any] = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(said))
    assert facts(tmp_path, CONFIG).nvfp4
    assert facts(tmp_path, CONFIG).kv_fp8
    assert facts(tmp_path, CONFIG).holds(".k_scale")
    assert facts(tmp_path, CONFIG).thinks_first  # for all we know
    begins = "{% if add_generation_prompt %}<|assistant|>"
    for text, thinks in ((begins, False), (begins + "<think>", True), ("{{ messages }}", True)):
        (tmp_path / "chat_template.jinja").write_text(text)
        assert facts(tmp_path, CONFIG).thinks_first == thinks
    scheme = {"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    (tmp_path / "hf_quant_config.json").unlink()
    assert facts(tmp_path, CONFIG | {"quantization_config": scheme}).kv_fp8
    with pytest.raises(Usage, match="has no num_attention_heads"):
        facts(tmp_path, {"num_hidden_layers": 1, "hidden_size": 1, "max_position_embeddings": 1})
    with pytest.raises(Usage, match=r"has no \.safetensors file"):
        facts(tmp_path.parent, CONFIG)


def test_a_model_of_text_and_images_is_judged_by_its_text(tmp_path: Path) -> None:
    save_file({"a": np.zeros((), np.float32)}, tmp_path / "model.safetensors")
    nested = {"model_type": "both", "text_config": CONFIG, "vision_config": {"num_attention_heads": 3}}
    model = facts(tmp_path, nested)
    assert (model.heads, model.kv_heads, model.experts, model.expert_width) == (48, 8, EXPERTS, WIDTH)
    assert model.context == 196_608
    found = check(
        profile("sglang_recommended", {"tp-size": 5}), model, several(5, "RTX PRO 6000", 120, 97887)
    )
    assert any("48 attention heads cannot be split over 5" in finding.sentence for finding in found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", "48"), ("num_hidden_layers", 0), ("hidden_size", [1]),
        ("num_key_value_heads", -1), ("num_local_experts", True), ("max_position_embeddings", 1.5),
        ("head_dim", {}),
    ],
)  # fmt: skip
def test_a_setting_that_is_no_number_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(Usage, match=rf"config.json has {key}=.*, which is not a valid number"):
        facts(tmp_path, CONFIG | {key: value})


def test_refusals_stop_and_warnings_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([warning("requests_queue", "slow")]) == ["slow"]
    with pytest.raises(Usage, match=r"^first$"):
        report(
            [
                warning("requests_queue", "slow"),
                refusal("gpus_too_few", "first"),
                refusal("driver_too_old", "second"),
            ]
        )
    assert "refused: second" in capsys.readouterr().err


def test_without_a_gpu_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    save_file({"a": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Usage, match="no NVIDIA GPU is visible"):
        preflight(profile("sglang_recommended"), tmp_path, CONFIG, tmp_path / "runs")
    assert preflight(profile("transformers_cpu"), tmp_path, CONFIG, tmp_path / "runs") == []


# What the engines were read to do: when a line is gone, read again.
READ = [
    ("sglang", "srt/arg_groups/overrides.py", '== "fa3" and view.kv_cache_dtype == "fp8_e5m2"'),
    ("sglang", "srt/layers/attention/attention_registry.py", "requires SM>=80 and SM<=90"),
    ("sglang", "srt/server_args.py", 'if prefill_backend == "trtllm_mha" and not is_sm100_supported()'),
    ("sglang", "srt/layers/communicator.py", "(_is_sm90_supported or _is_sm100_supported)"),
    ("sglang", "srt/layers/quantization/modelopt_quant.py", "= (8, 0) <= capability < (10, 0)"),
    ("sglang", "srt/layers/quantization/kv_cache.py", "use the default value of 1.0"),
    ("sglang", "srt/models/minimax_m2.py", "if name not in params_dict:\n                        continue"),
    ("sglang", "srt/arg_groups/overrides.py", "trtllm-gen MoE kernels are SM100-only"),
    ("vllm", "model_executor/layers/attention/attention.py", "fp8_e5m2 kv-cache is not supported with fp8"),
    ("vllm", "model_executor/models/utils.py", "There is no module or parameter named"),
    ("vllm", "model_executor/layers/fused_moe/oracle/nvfp4.py", '"emulation": NvFp4MoeBackend.EMULATION'),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "file", "text"), READ)
def test_the_engines_still_do_what_preflight_says(engine: str, file: str, text: str) -> None:
    assert text in source(engine, f"{engine}/{file}")


def test_vllm_still_ignores_no_biases_of_a_kv_cache() -> None:
    base = source("vllm", "vllm/model_executor/layers/quantization/base_config.py")
    ignored = base.split("_ignore_unexpected_suffixes = (")[1].split(")")[0]
    assert "k_scale" in ignored
    assert "bias" not in ignored
