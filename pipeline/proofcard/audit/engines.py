"""What `serve` would report before a start, for a checkpoint of which only the plan exists."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import ValidationError

from proofcard.audit.claims import Check
from proofcard.bundle import bundled
from proofcard.checkpoint.tensors import Tensor
from proofcard.config.serving import Serving
from proofcard.errors import Usage
from proofcard.gpus import Gpu, Machine
from proofcard.plan.serving_memory import Profile
from proofcard.serve import preflight
from proofcard.serve.asked import Facts, text_settings
from proofcard.serve.findings import NAMES

_WIDTH = {"F32": 4, "BF16": 2}
_WHOLE = ("input_scale", "weight_scale_2", "KV cache", "norms")  # roles of one dimension: on every GPU
_NAMES = {"KV cache scales": "layer.k_scale", "KV cache biases": "layer.k_bias"}


def findings(check: Check, plan: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What the check before a start reports: `findings` and `refusals`.

    `findings` has the sentence of each finding by its name, None for what is not reported; `refusals` are the
    sentences that prevent a start. `settings` is the model's config.json.

    Raises:
        Usage: when the profile or the hardware does not exist.
    """
    serving = _profile(str(check.serving))
    changed = serving.model_copy(update={"flags": serving.flags | check.flags})
    reported = preflight.check(changed, _facts(plan, settings, check.kv_scales), _machine(check))
    return {
        "findings": dict.fromkeys(NAMES) | {finding.name: finding.sentence for finding in reversed(reported)},
        "refusals": [finding.sentence for finding in reported if finding.refuses],
    }


def _profile(name: str) -> Serving:
    return _loaded(f"conf/serving/{name}.yaml", Serving, "serving profile")


def _loaded(name: str, schema: Any, what: str) -> Any:
    path = bundled(name)
    try:
        return schema.model_validate(OmegaConf.to_container(OmegaConf.load(path)))
    except (OSError, ValidationError):
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise Usage(f"{path.stem} is not a {what}: there are {known}") from None


def _machine(check: Check) -> Machine:
    if check.gpus is not None:
        gpus = check.gpus
        return Machine((Gpu(gpus.name, gpus.capability, gpus.memory_mib),) * gpus.number, None)
    profile: Profile = _loaded(
        f"conf/hardware/profiles/{check.hardware_profile}.yaml", Profile, "hardware profile"
    )
    gpu = Gpu(profile.name.split("× ")[-1], profile.compute_capability, profile.memory_mib)
    return Machine((gpu,) * profile.gpus, None)


def _facts(plan: dict[str, Any], settings: dict[str, Any], kv_scales: bool) -> Facts:
    """One tensor for each group of the plan's export: only sizes and endings of names are looked at."""
    tensors: dict[str, Tensor] = {}
    for number, group in enumerate(plan["export"]["groups"]):
        role = str(group["role"])
        if role in _NAMES and not kv_scales:
            continue
        values = int(group["bytes"]) // _WIDTH.get(group["dtype"], 1)
        shape = (values,) if any(part in role for part in _WHOLE) else (values, 1)
        name = _NAMES.get(role, f"{number}.gate.weight" if role == "router" else f"{number}.weight")
        tensors[name] = Tensor(name, Path(), group["dtype"], shape, 0, int(group["bytes"]))
    kv_fp8 = plan["config"]["kv_cache"]["format"] != "none"
    return Facts(text_settings(settings), tensors, nvfp4=True, kv_fp8=kv_fp8)
