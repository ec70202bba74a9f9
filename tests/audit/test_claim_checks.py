"""Each kind of check holds where it does, and not once what it rests on is changed."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from audit.plans import RECIPE, plan

from proofcard.audit import claim_checks, claims
from proofcard.bundle import bundled
from proofcard.documents.audit import AuditedClaim
from proofcard.documents.plan import Plan
from proofcard.errors import Usage
from proofcard.evidence import Evidence

SETTINGS = json.loads(bundled("conf/model/minimax_m2_7/config.json").read_text())
PUBLISHED = claims.read(claims.chosen("minimax_m2_7_nvfp4", ""))[0]


def evidence(kind: str, values: dict[str, Any]) -> Evidence:
    text = json.dumps(values)
    return Evidence(kind, "", Path(f"{kind}.json"), "0" * 64, text, values)


def audited(
    changed: dict[str, Any] | None = None, documents: list[Evidence] | None = None, which: Any = PUBLISHED
) -> dict[str, AuditedClaim]:
    basis = claim_checks.Basis(changed or plan(), SETTINGS, documents or [])
    return {claim.name: claim for claim in claim_checks.audited(which, basis)}


def test_the_plan_is_as_the_program_writes_them_now() -> None:
    """Where a plan has gained a field: proofcard plan recipe=minimax_m2_7_nvfp4_as_run report=FILE."""
    assert Plan.model_validate(plan()).recipe.name == RECIPE


def test_the_published_card_against_what_its_code_did() -> None:
    found = audited()
    expected: dict[str, tuple[str, ...]] = {
        "holds": ("quantizers", "parameters", "samples", "shuffled"),
        "contradicted": (
            "context_window", "attention_bf16", "size_on_disk", "calib_seq", "chat_template", "tool_calls",
            "kv_scales_per_channel", "tokens_an_expert", "natural_routing", "hopper", "fa3", "kv_dynamic",
            "fits_5090", "vllm_command", "allreduce_fusion", "sixty_four_at_once",
        ),
        "internally inconsistent": (
            "users_32", "users_64", "practical_limit", "memory_growth", "hopper_listed", "just_past_at_512",
        ),
        "not checked": ("users_1", "users_16", "pool_fp8", "merge_sort"),
    }  # fmt: skip
    for verdict, names in expected.items():
        assert {name: found[name].verdict for name in names} == dict.fromkeys(names, verdict)
    assert "139.9 GB, which is 130.3 GiB" in found["size_on_disk"].evidence[0].sentence
    assert Counter(claim.verdict for claim in found.values())["holds"] > 30


def test_as_the_card_describes_itself_its_settings_hold() -> None:
    described = plan()
    described["config"]["calibration"] |= {"sequence_length": 4096, "chat_template": True}
    described["work"] |= {"positions": 20_480_000}
    found = audited(described)
    assert {found[name].verdict for name in ("calib_seq", "chat_template", "total_tokens")} == {"holds"}


@pytest.mark.parametrize(
    ("claim", "path", "value"),
    [
        ("quantizers", ("quantizers", "inserted"), 96_166),
        ("layers", ("model", "layers"), 61),
        ("samples", ("work", "samples"), 512),
        ("kv_scales_present", ("model", "layers"), 63),
        ("batch_size", ("config", "calibration", "batch_size"), 1),
        ("all_experts", ("config", "coverage", "name"), "natural"),
        ("small_gpu", ("work", "memory", "layerwise_gpu"), 25 * 10**9),
    ],
)
def test_a_plan_that_says_otherwise_contradicts(claim: str, path: tuple[str, ...], value: Any) -> None:
    assert audited()[claim].verdict == "holds"
    changed = plan()
    part = changed
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    assert audited(changed)[claim].verdict == "contradicted"


def test_numbers_of_the_card_that_do_not_fit_each_other_are_inconsistent() -> None:
    consistent = {"users": 64, "aggregate": 631, "each": 9.9}
    assert PUBLISHED.claims["Throughput"]["users_64"].numbers["each"] == 21
    row = PUBLISHED.claims["Throughput"]["users_64"].model_copy(update={"numbers": consistent})
    changed = PUBLISHED.model_copy(
        update={
            "claims": PUBLISHED.claims | {"Throughput": PUBLISHED.claims["Throughput"] | {"users_64": row}}
        }
    )
    assert audited(which=changed)["users_64"].verdict == "not checked"
    assert audited()["users_64"].verdict == "internally inconsistent"


def level(users: int, rate: float) -> dict[str, Any]:
    return {"users": users, "tokens_per_s": {"mean": rate, "least": rate, "most": rate}}


def test_a_measurement_agrees_or_says_otherwise_or_is_not_there() -> None:
    results = {"levels": [level(1, 91.0), level(4, 127.7)], "server": {"label": "x by y"}}
    found = audited(documents=[evidence("benchmark", results)])
    assert found["users_1"].verdict == "holds"
    assert found["users_4"].verdict == "contradicted by measurement"
    assert "128 tokens/s by x by y" in found["users_4"].evidence[1].sentence
    assert found["users_8"].verdict == "not checked"
    [lacking] = [one for one in found["users_8"].evidence if one.verdict == "not checked"]
    assert lacking.sentence == "the benchmark document here does not have it"
    assert lacking.command == "proofcard benchmark checkpoint=DIR serving=sglang_published benchmark=card"
    assert lacking.hardware == "2× RTX PRO 6000"


def test_an_engine_s_rule_follows_the_profile_and_the_gpus() -> None:
    check = PUBLISHED.claims["Serving"]["fa3"].checks[0]
    for update, verdict in (
        ({}, "contradicted"),
        ({"flags": {"attention-backend": "triton"}}, "holds"),
        ({"flags": {"kv-cache-dtype": "fp8_e4m3"}}, "contradicted"),  # refused: fa3 needs SM80 to SM90
    ):
        changed = check.model_copy(update=update)
        basis = claim_checks.Basis(plan(), SETTINGS)
        assert claim_checks._checked(changed, {}, {}, basis).verdict == verdict
    for wrong in ({"serving": "nothing"}, {"hardware_profile": "nothing"}):
        with pytest.raises(Usage, match=r"nothing is not a (serving|hardware) profile: there are "):
            claim_checks._checked(
                check.model_copy(update=wrong), {}, {}, claim_checks.Basis(plan(), SETTINGS)
            )


def own(**of: Any) -> tuple[Any, list[Evidence]]:
    verification = {
        "result": "verified",
        "levels": {"weights": {"result": "holds"}, "structure": {"counts": {"tensors": 615}}},
    }
    analysis = {"bytes": {"bytes": 600, "total": 4_914_264}}
    documents = {"verification": verification, "analysis": analysis} | of
    return claims.read(claims.chosen("demo", ""))[0], [evidence(k, v) for k, v in documents.items() if v]


def small_plan() -> dict[str, Any]:
    small = copy.deepcopy(plan())
    small["export"]["tensors"] = 615
    small["modules"] = [{"kind": "model.layers.*.experts.*.w1", "selected": 144}]
    return small


def test_documents_hold_up_one_s_own_claims_or_contradict_them() -> None:
    which, documents = own()
    found = audited(small_plan(), documents, which)
    assert {found[name].verdict for name in ("tensors", "verified", "calibrated_bytes")} == {"holds"}
    assert found["known_answers"].verdict == "not checked"
    broken = {
        "result": "differs",
        "levels": {"weights": {"result": "differs"}, "structure": {"counts": {"tensors": 614}}},
    }
    which, documents = own(verification=broken, analysis={"bytes": {"bytes": 601, "total": 4_914_264}})
    found = audited(small_plan(), documents, which)
    assert (found["verified"].verdict, found["tensors"].verdict) == ("contradicted", "contradicted")
    assert found["calibrated_bytes"].verdict == "contradicted by measurement"
    which, documents = own(verification=None)
    assert audited(small_plan(), documents, which)["verified"].verdict == "not checked"


def test_a_formula_that_is_wrong_names_its_claim() -> None:
    which, documents = own()
    check = which.claims["What is made"]["tensors"].checks[0]
    for holds, sentence in (
        ("plan.nothing == 1", "there is no 'nothing'"),
        ("plan.export.tensors", "neither true"),
    ):
        section = {"tensors": which.claims["What is made"]["tensors"].model_copy(
            update={"checks": (check.model_copy(update={"holds": holds}),)})}  # fmt: skip
        changed = which.model_copy(update={"claims": {"What is made": section}})
        with pytest.raises(Usage, match=rf"claim tensors, check by plan: .*{sentence}"):
            audited(small_plan(), documents, changed)
