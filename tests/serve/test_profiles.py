"""Every profile is taken by the engine's own parser, and the card's are the card's."""

from pathlib import Path
from typing import Any

import pytest
from serve.engines import PROFILES, packages, profile

from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.serve import flags
from proofcard.serve.findings import report
from proofcard.serve.launch import arguments

CARD = (
    "--model-path /model --served-model-name minimax-m2.7 --trust-remote-code --tp 2 --ep 2 "
    "--quantization modelopt_fp4 --mem-fraction-static 0.9 --context-length 131072 --max-running-requests 16 "
    "--chunked-prefill-size 8192 --kv-cache-dtype fp8_e5m2 --attention-backend fa3 "
    "--moe-runner-backend flashinfer_cutlass --disable-custom-all-reduce "
    "--enable-flashinfer-allreduce-fusion "
    "--tool-call-parser minimax-m2 --reasoning-parser minimax-append-think --host 127.0.0.1 --port 8000"
)
CONSERVATIVE = (
    "--model-path /model --served-model-name minimax-m2.7 --trust-remote-code --tp 2 --ep 2 "
    "--quantization modelopt_fp4 --mem-fraction-static 0.9 --context-length 65536 --max-running-requests 16 "
    "--chunked-prefill-size 8192 --kv-cache-dtype bf16 --attention-backend flashinfer "
    "--moe-runner-backend flashinfer_cutlass --disable-custom-all-reduce "
    "--enable-flashinfer-allreduce-fusion "
    "--host 127.0.0.1 --port 8000"
)
WRONG = {
    "sglang": {"kv-cache-dtyp": "bf16", "kv-cache-dtype": "fp8_e4", "atention-backend": "fa3", "ep": "two"},
    "vllm": {"kv-cache": "fp8", "kv-cache-dtype": "fp8_e4", "tool-call-parser": "minimax-m2", "tp": 2},
}


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_composes_and_listens_on_loopback(name: str) -> None:
    serving = profile(name)
    assert (serving.name, serving.host) == (name, "127.0.0.1")
    assert serving.api_key_file is None


@pytest.mark.parametrize(("name", "command"), [("sglang_published", CARD), ("sglang_baseline", CONSERVATIVE)])
def test_the_card_s_two_commands_are_taken_word_by_word(name: str, command: str) -> None:
    assert arguments(profile(name), Path("/model"), 8000) == command.split()
    assert profile(name).environment == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1", "NCCL_IB_DISABLE": "1",
        "NCCL_P2P_LEVEL": "PHB", "SGLANG_DISABLE_CUDNN_CHECK": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in PROFILES if name not in ("sglang_published", "sglang_baseline")]
)
def test_our_own_profiles_run_no_code_of_the_checkpoint(name: str) -> None:
    assert "trust-remote-code" not in profile(name).flags


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What an engine's parser says of all its profiles and of a wrong one, in one process."""
    engine: str = request.param
    packages(engine)
    names = [name for name in PROFILES if name.startswith(engine)]
    wrong = profile(names[0]).model_copy(update={"flags": WRONG[engine], "environment": {"VLLM_USE_V1": "1"}})
    said = flags.ask(engine, [*map(profile, names), wrong])
    found = [
        [flags._sentence(f"{engine} {said['version']}", each) for each in every] for every in said["said"]
    ]
    return dict(zip([*names, "wrong"], found, strict=True))


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("told", ["sglang"], indirect=True)
def test_sglang_takes_every_profile_and_warns_of_the_card_s(told: dict[str, Any]) -> None:
    of_the_card = [
        "sglang 0.5.17 reads --tp as an abbreviation of --tp-size: write --tp-size",
        "--enable-flashinfer-allreduce-fusion is deprecated in sglang 0.5.17: "
        "write --flashinfer-allreduce-fusion-backend=auto",
        "nothing in sglang 0.5.17 reads the variable SGLANG_DISABLE_CUDNN_CHECK: leave it out",
    ]
    wrong = told.pop("wrong")
    for name, found in told.items():
        assert not any(finding.refuses for finding in found)
        expected = of_the_card if name in ("sglang_published", "sglang_baseline") else []
        assert [finding.sentence for finding in found] == expected
    refused = [finding.sentence for finding in wrong if finding.refuses]
    assert refused[0] == (
        "sglang 0.5.17 does not accept --kv-cache-dtype: invalid choice: 'fp8_e4': did you mean fp8_e4m3?"
    )
    assert refused[1] == "sglang 0.5.17 has no --atention-backend: did you mean --attention-backend?"
    assert refused[2] == "sglang 0.5.17 does not accept --ep: invalid int value: 'two'"
    with pytest.raises(Usage, match="does not accept --kv-cache-dtype"):
        report(wrong)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("told", ["vllm"], indirect=True)
def test_vllm_takes_its_profile(told: dict[str, Any]) -> None:
    assert told["vllm"] == []
    sentences = [finding.sentence for finding in told["wrong"]]
    assert sentences[0].startswith("--kv-cache is ambiguous in ")
    assert "--kv-cache-dtype" in sentences[0]
    assert sentences[1].endswith("invalid choice: 'fp8_e4': did you mean fp8_e4m3?")
    assert sentences[2].endswith("invalid choice: 'minimax-m2': did you mean minimax_m2?")
    assert sentences[3].startswith("vllm 0.26.0 has no --tp")
    assert sentences[4] == "nothing in vllm 0.26.0 reads the variable VLLM_USE_V1: leave it out"


def test_an_answer_is_remembered_until_the_engine_or_the_flags_change(tmp_path: Path) -> None:
    packages("sglang")
    serving, python = profile("sglang_published"), program("serve", "python")
    place = flags._remembered(serving, python, tmp_path / "serve" / "flags")
    assert place is not None
    said = {"kind": "short", "flag": "--tp", "text": "", "instead": "--tp-size"}
    flags._remember(place, {"version": "0.5.17", "said": [[said]]})
    (found,) = flags.check(serving, tmp_path)
    assert found.sentence.startswith("sglang 0.5.17 reads --tp as an abbreviation of --tp-size")
    other = profile("sglang_published", {"tp": 4})
    assert flags._remembered(other, python, place.parent) != place
