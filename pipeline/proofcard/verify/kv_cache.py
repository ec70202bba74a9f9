"""Scales and biases of the KV cache: where the configuration requires them, and where they may be missing."""

from proofcard.documents.manifest import Manifest
from proofcard.verify.inventory import Inventory, natural, of_config
from proofcard.verify.quantconfig import Declaration
from proofcard.verify.regularity import LAYERS
from proofcard.verify.report import Finding, Level

UNSCALED = "the KV cache is {} and no scale for it is stored: engines use 1.0 (as fp8_cast intends)"
_ATTENTION = ("attn", "attention", "qkv", "kv_", "mixer")
BIASED = "{} biases of the KV cache are stored: no known engine reads them"


def check(inventory: Inventory, declared: Declaration, sealed: Manifest | None, level: Level) -> None:
    """Check that every layer has scales for k and v if the configuration declares them, else that none has.

    No scale at all means `fp8_cast`. Layers beyond the counted ones and other towers need none. Our own
    recipes record in the manifest whether there are biases.
    """
    level.group(_superfluous(inventory, declared, _format(sealed)))
    biases = sum(name.endswith("_bias") for name in inventory.cache)
    if biases and not level.kinds:
        level.notes.append(BIASED.format(biases))
    if declared.cache is None:
        if _format(sealed) not in (None, "none"):
            why = (
                f"the recipe quantized the KV cache ({_format(sealed)}), which the configuration does not say"
            )
            level.add(Finding("missing", why, file=declared.file))
        return
    scales = {name for name in inventory.cache if name.endswith("_scale")}
    if not scales:
        if _format(sealed) in (None, "fp8_cast"):
            level.notes.append(UNSCALED.format(declared.cache))
        else:
            why = f"the recipe calibrated the KV cache ({_format(sealed)}), and no layer has a scale for it"
            level.add(Finding("missing", why, file=declared.file))
        return
    level.group(
        Finding("missing", f"the configuration says that the KV cache is {declared.cache}", tensor=name)
        for name in sorted(_wanted(inventory, declared, scales) - scales, key=natural)
    )


def _superfluous(inventory: Inventory, declared: Declaration, recipe: str | None) -> list[Finding]:
    modules = inventory.modules()
    findings = []
    for name in inventory.cache:
        stem, _, leaf = name.rpartition(".")
        shape = inventory.tensors[name].shape
        if declared.cache is None:
            why = "the configuration says that the KV cache is not quantized"
        elif not _belongs(stem, leaf[0], modules):
            why = "a scale or bias of the KV cache, but not of a module that has keys or values"
        elif leaf.endswith("_scale") and shape not in ((), (1,)):
            findings.append(
                Finding("mismatched", f"its shape is {list(shape)}; a scale is one number", tensor=name)
            )
            continue
        elif name.endswith("_bias") and recipe not in (None, "fp8_affine"):
            why = f"the recipe's KV cache is {recipe}, which has no biases"
        else:
            continue
        findings.append(Finding("extra", why, tensor=name))
    return findings


def _belongs(stem: str, kind: str, modules: set[str]) -> bool:
    """Whether this module may have a scale of keys (`k`) or values (`v`)."""
    outer, _, leaf = stem.rpartition(".")
    if leaf == f"{kind}_proj":
        return stem in modules or outer in modules
    projects = leaf in ("q_proj", "o_proj", "k_proj", "v_proj")
    attends = any(word in leaf for word in _ATTENTION) or any(word in outer for word in _ATTENTION)
    return not projects and attends and (stem in modules or outer in modules)


def _wanted(inventory: Inventory, declared: Declaration, scales: set[str]) -> set[str]:
    """Names of the scales of every k_proj and v_proj in the counted layers of a decoder that has any."""
    count = of_config(declared.config, LAYERS)
    towers = {_tower(name)[0] for name in scales}
    wanted = set()
    for module in inventory.modules():
        stem, _, leaf = module.rpartition(".")
        container, layer = _tower(module)
        counted = layer is None or count is None or layer < count
        if leaf in ("k_proj", "v_proj") and container in towers and counted:
            wanted.add(f"{module}.{leaf[0]}_scale")
            wanted -= {f"{module}.{leaf[0]}_scale"} if f"{stem}.{leaf[0]}_scale" in scales else set()
    return wanted


def _tower(name: str) -> tuple[str, int | None]:
    """The part before the first number in a name, and that number."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit() and len(part) < 19), None)
    return (name, None) if at is None else (".".join(parts[:at]), int(parts[at]))


def _format(sealed: Manifest | None) -> str | None:
    """`kv_cache.format` of the recipe in our manifest; None without one."""
    try:
        value = sealed.config["kv_cache"]["format"] if sealed else None
    except (KeyError, TypeError):
        return None
    return value if isinstance(value, str) and value in ("fp8", "fp8_affine", "fp8_cast", "none") else None
