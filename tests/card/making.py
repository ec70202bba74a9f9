"""A small checkpoint, and every kind of document about it, with figures that are easy to find again."""

import json
import shutil
from pathlib import Path
from typing import Any

from running import ROOT

from proofcard import manifest
from proofcard.digest import readable_json

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"


def checkpoint(folder: Path) -> Path:
    """A copy of the golden checkpoint."""
    shutil.copytree(GOLDEN / "checkpoint", folder / "checkpoint")
    return folder / "checkpoint"


def documents(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """One document of each kind, by where it lies from the checkpoint's folder."""
    sealed = manifest.read(checkpoint)
    key, digest = sealed.key, "a" * 64

    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value * 0.9, "high": value * 1.1}

    figures = {"kl_mean": 0.0123, "kl_p99": 0.31, "same_top": 0.947}
    numbers = {name: estimate(n) for name, n in figures.items()}
    spread = {"mean": 321.5, "least": 318.0, "most": 325.0}
    level = {
        "users": 1,
        "starts": 3,
        "requests": 9,
        "failed": 0,
        "tokens_per_s": spread,
        "doubts": ["it was late"],
        "tokens_per_s_user": spread,
        "first_ms_p50": spread,
    }
    task = {
        "questions": 40,
        "repeats": 2,
        "missing": 0,
        "prompts": digest,
        "metric": "exact_match",
        "filter": "none",
        "max_tokens": 512,
        "reference": estimate(0.8),
        "candidate": estimate(0.7),
        "difference": estimate(-0.1),
        "recovery": None,
        "lost": 3,
        "gained": 1,
        "mcnemar_p": 0.5,
        "detectable": 0.07,
        "margin": 0.05,
        "verdict": "REGRESSION",
        "reasons": [],
        "outcomes": {},
        "published": {},
    }
    near = {"quantizers": 2, "samples": 4, "equal": 1.0, "within_1_percent": 1.0, "within_5_percent": 1.0}
    coverage = {
        "experts": 2,
        "positions": 96,
        "mean": 96.0,
        "smallest": 96,
        "tenth_percentile": 96.0,
        "median": 96.0,
        "largest": 96,
        "mean_over_tenth_percentile": 1.0,
        "zipf": 0.0,
        "below": {"1000": 2},
    }
    return {
        "checkpoint.verification.json": {
            "schema": "proofcard/verification/1",
            "result": "verified",
            "manifest": {"key": key, "sha256": file_sha256(checkpoint / "manifest.json")},
            "levels": {
                name: {"result": "holds", "counts": {"tensors": 36}, "not_requested": None, "notes": []}
                for name in ("integrity", "structure", "weights")
            },
        },
        "checkpoint.analysis/analysis.json": {
            "schema": "proofcard/analysis/2",
            "checkpoint": {"key": key, "recipe": "local"},
            "bytes": {"bytes": 32, "total": 4096, "share": 0.0078125},
            "convergence": {"inputs": [near]},
            "coverage": coverage,
        },
        "checkpoint.evaluation/evaluation.json": {
            "schema": "proofcard/evaluation/2",
            "checkpoint": {"key": key},
            "last": "w4a4",
            "texts": {"documents": 12, "tokens": 1500, "sha256": digest, "datasets": {"text": 12}},
            "streams": [{"name": "w4a4", "role": "candidate", "all": {"numbers": numbers}}],
            "costs": [{"cost": "weights", "kl_mean": estimate(0.01)}],
            "layers": [{"layer": 0, "error": {"w4a4": estimate(0.05)}}],
        },
        "runs/benchmarks/one-001/results.json": {
            "schema": "proofcard/benchmark/3",
            "complete": True,
            "name": "one",
            "starts": [1, 2, 3],
            "server": {"label": "checkpoint by transformers_cpu", "key": key},
            "levels": [level],
            "load": {"input_tokens": 32, "output_tokens": 160, "beside": ["card"]},
            "serving": {"name": "transformers_cpu", "flags": {}},
        },
        "runs/serve/one-001/session.json": {
            "schema": "proofcard/serving/2",
            "key": key,
            "profile": {"name": "transformers_cpu"},
            "engine": "transformers",
            "engine_version": "4.57.6",
            "ready_s": 7.5,
            "settings": [{"name": "device", "requested": "cpu", "effective": "cpu", "differs": False}],
            "known_answers": {"passed": 18, "verdicts": [{"name": "a [b](c)", "right": True}] * 19},
        },
        "runs/tasks/demo-001/tasks.json": {
            "schema": "proofcard/tasks/2",
            "name": "demo",
            "verdict": "REGRESSION",
            "candidate": {"key": key},
            "sampling": {"temperature": 1.0, "top_p": 0.95, "seed": 7},
            "not_run": {"scicode": "no harness"},
            "tasks": {"gpqa_diamond": task, "arithmetic": task},
        },
        "runs/agentic/notebook-001/agentic.json": {
            "schema": "proofcard/agentic/2",
            "name": "notebook",
            "server": {"key": key},
            "specification": digest,
            "score": estimate(0.5),
            "sampling": {"temperature": 1.0},
            "max_tokens": 2048,
            "runs": [
                {"passed": 6, "tasks": {str(n): {} for n in range(13)}, "files": {"a.py": 20, "b.py": 31}}
            ],
        },
        "checkpoint.reproduction.json": {
            "schema": "proofcard/reproduction/1",
            "outcome": "reproduced",
            "recorded_key": key,
            **{name: {"recorded": 36, "equal": 36} for name in ("files", "tensors", "calibrated")},
        },
        "runs/audits/local.json": {
            "schema": "proofcard/audit/2",
            "claims_file": "own",
            "claims_sha256": digest,
            "card": "somebody/model",
            "recipe": "local",
            "config_sha256": digest,
            "key": key,
            "counts": {"holds": 1, "not checked": 1},
            "sources": [],
            "claims": [
                claim("sealed", "holds", {"sentence": "36 tensors"}),
                claim(
                    "fast",
                    "not checked",
                    {"sentence": "this cannot be checked here", "command": "proofcard benchmark"},
                ),
            ],
        },
    }


def claim(name: str, verdict: str, evidence: dict[str, str]) -> dict[str, Any]:
    """An audited claim with one check."""
    one = {"by": "document", "verdict": verdict, "command": None, "hardware": None} | evidence
    return {"name": name, "section": "All", "claim": f"It is {name}.", "verdict": verdict, "evidence": [one]}


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    """Write documents where commands leave them."""
    for name, values in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(readable_json(values))


def digits(text: str) -> list[int]:
    """Places of the digits of a text."""
    return [place for place, character in enumerate(text) if character.isdigit()]


def loaded(path: Path) -> dict[str, Any]:
    """A JSON object of a file."""
    values: dict[str, Any] = json.loads(path.read_text())
    return values
