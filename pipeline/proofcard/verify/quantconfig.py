"""What a checkpoint says about its own quantization, held to itself and to the tensors.

ModelOpt writes it twice: `hf_quant_config.json` in its own form, and config.json's `quantization_config`
in a form that engines read. Either alone is enough; where both stand they must agree.
"""

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proofcard.verify.inventory import TIED, Inventory
from proofcard.verify.report import Finding

MODEL, QUANT = "config.json", "hf_quant_config.json"
_FP8_CACHE = {"dynamic": False, "num_bits": 8, "type": "float"}


@dataclass
class Said:
    """The two files' content, and what is wrong with them as files. `algorithm` None: neither says any."""

    config: dict[str, Any] = field(default_factory=dict)
    algorithm: Any = None
    cache: Any = None
    group_size: Any = None
    patterns: list[str] = field(default_factory=list)
    file: str = MODEL  # which of the two the values above are from
    method: Any = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def tied(self) -> bool:
        """Whether input and output embeddings are one tensor."""
        return self.config.get("tie_word_embeddings") is True


def read(folder: Path) -> Said:
    """Both files; raises OSError when one is there and cannot be read."""
    said = Said()
    config, quant = (_json(folder, name, said.findings) for name in (MODEL, QUANT))
    said.config = config or {}
    if config is None and not said.findings:
        said.findings.append(Finding("missing", "every checkpoint has one", file=MODEL))
    inner = _dict(said.config, "quantization_config")
    ours = _inner_form(inner)
    if quant is not None:
        theirs = _outer_form(quant)
        said.file = QUANT
        if inner:
            said.findings += _disagreements(ours, theirs)
        ours = theirs
    said.method = inner.get("quant_method", "modelopt" if quant is not None else None)
    said.algorithm, said.cache, said.group_size = ours["quant_algo"], ours["kv_cache"], ours["group_size"]
    patterns = ours["excluded modules"]
    if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns):
        said.patterns = patterns
    elif patterns is not None:
        said.findings.append(
            Finding("mismatched", "its excluded modules are no list of names", file=said.file)
        )
    return said


def other_layout(said: Said) -> str | None:
    """Why the tensors cannot be judged: the files say that they are not ModelOpt's NVFP4."""
    if said.algorithm == "NVFP4" and said.method == "modelopt":
        return None
    what = f"quant_algo {said.algorithm!r}, quant_method {said.method!r}"
    return f"only ModelOpt's NVFP4 layout is known; this says {what}"


def _json(folder: Path, name: str, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / name).read_bytes().decode())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        findings.append(Finding("mismatched", f"it is not JSON: {error}", file=name))
        return None
    if not isinstance(content, dict):
        findings.append(Finding("mismatched", "it is no JSON object", file=name))
        return None
    return content


def _dict(content: Any, key: str) -> dict[str, Any]:
    inner = content.get(key) if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}


def _outer_form(quant: dict[str, Any]) -> dict[str, Any]:
    inner = _dict(quant, "quantization")
    return {
        "quant_algo": inner.get("quant_algo"),
        "kv_cache": inner.get("kv_cache_quant_algo"),
        "group_size": inner.get("group_size"),
        "excluded modules": inner.get("exclude_modules") or [],
        "producer": quant.get("producer"),
    }


def _inner_form(inner: dict[str, Any]) -> dict[str, Any]:
    scheme = inner.get("kv_cache_scheme")
    groups = _dict(inner, "config_groups")
    parts = [_dict(group, part) for group in groups.values() for part in ("weights", "input_activations")]
    sizes = [part["group_size"] for part in parts if "group_size" in part]
    return {
        "quant_algo": inner.get("quant_algo"),
        "kv_cache": "FP8" if scheme == _FP8_CACHE else scheme,
        "group_size": sizes[0] if sizes and all(size == sizes[0] for size in sizes) else sizes or None,
        "excluded modules": inner.get("ignore") or [],
        "producer": inner.get("producer"),
    }


def _disagreements(inner: dict[str, Any], outer: dict[str, Any]) -> Iterator[Finding]:
    for what in sorted(inner):
        if inner[what] != outer[what]:
            first, second = (json.dumps(form[what], sort_keys=True) for form in (outer, inner))
            message = f"{what}: {QUANT} and {MODEL} do not agree"
            yield Finding("mismatched", message, file=MODEL, expected=first[:200], found=second[:200])


def patterns_name_modules(said: Said, inventory: Inventory) -> Iterator[Finding]:
    """Each exclude pattern matches a module (vLLM #40252) and no quantized one; each plain linear has one."""
    modules = inventory.modules()
    if said.tied:
        modules |= {
            TIED[module.rpartition(".")[2]] for module in modules if module.rpartition(".")[2] in TIED
        }
    for pattern in said.patterns:
        if not fnmatch.filter(modules, pattern):
            yield Finding("mismatched", f"exclude pattern {pattern!r} matches no module", file=said.file)
    covered = re.compile("|".join(fnmatch.translate(pattern) for pattern in said.patterns) or r"(?!)")
    for module in inventory.quantized:
        if covered.match(module):
            yield Finding(
                "mismatched", "quantized, and an exclude pattern covers it", tensor=f"{module}.weight"
            )
    for module in inventory.linears():
        if not any(covered.match(name) for name in _upwards(module)):
            yield Finding(
                "mismatched", "neither quantized nor excluded by a pattern", tensor=f"{module}.weight"
            )


def _upwards(module: str) -> Iterator[str]:
    while module:
        yield module
        module = module.rpartition(".")[0]
