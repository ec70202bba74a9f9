"""Evaluations in the formats that others read: the hub's `.eval_results/*.yaml`, and Every Eval Ever's JSON.

The hub lists a result under a benchmark that it knows by dataset and task. Every Eval Ever (schema 0.3.0)
takes every metric, with its interval and how answers were sampled.
"""

from typing import Any

import yaml

from proofcard import __version__
from proofcard.card.facts import Facts
from proofcard.digest import readable_json
from proofcard.evidence import Evidence

HUB_TASKS = {
    "gpqa_diamond": ("Idavidrein/gpqa", "gpqa_diamond"),
    "ifeval": ("google/IFEval", "ifeval"),
    "mmlu_pro": ("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
}
"""Tasks that the hub has a benchmark for, by our names: its dataset and its task there."""

EVERY_EVAL_EVER = "0.3.0"

_METRICS = {
    "kl_mean": ("Mean KL divergence from the source", "nats", True),
    "kl_p99": ("KL divergence from the source, 99th percentile", "nats", True),
    "perplexity_ratio": ("Perplexity over that of the source", "ratio", True),
    "same_top": ("Same most probable token as the source", "proportion", False),
}
_SHARES = ("same_top",)


def hub_files(facts: Facts) -> dict[str, str]:
    """Texts of `.eval_results/*.yaml` by file name, one for each task that the hub knows."""
    texts = {}
    for one in facts.all_of("tasks"):
        for name, task in one.values["tasks"].items():
            if name in HUB_TASKS:
                texts[f"{name}.yaml"] = yaml.safe_dump(_hub_entries(name, task, one), sort_keys=False)
    return texts


def _hub_entries(name: str, task: dict[str, Any], one: Evidence) -> list[dict[str, Any]]:
    """One entry, as huggingface_hub's `eval_result_entries_to_yaml` writes its `EvalResultEntry`."""
    dataset, task_id = HUB_TASKS[name]
    score = task["candidate"]
    notes = (
        f"{task['questions']} questions, {task['repeats']} times each; 95% interval {score['low']:.4f} to "
        f"{score['high']:.4f}; the source {task['reference']['value']:.4f}; proofcard/tasks {one.sha256}"
    )
    return [{"dataset": {"id": dataset, "task_id": task_id}, "value": score["value"], "notes": notes}]


def every_eval_ever(facts: Facts, written: str) -> str | None:
    """The text of the Every Eval Ever file, if anything was evaluated. `written` is Unix time, in seconds."""
    results = [
        *(each for one in facts.all_of("evaluation") for each in _divergences(one)),
        *(each for one in facts.all_of("tasks") for each in _tasks(one)),
        *(each for one in facts.all_of("agentic") for each in _builds(one)),
    ]
    if not results:
        return None
    key = facts.sealed.key
    model = facts.inputs.repository or f"proofcard/{facts.sealed.recipe or 'checkpoint'}-{key[:12]}"
    log = {
        "schema_version": EVERY_EVAL_EVER,
        "evaluation_id": f"proofcard/{model}/{written}",
        "retrieved_timestamp": written,
        "source_metadata": {
            "source_name": "proofcard",
            "source_type": "evaluation_run",
            "source_organization_name": model.split("/")[0],
            "evaluator_relationship": "first_party",
        },
        "eval_library": {"name": "proofcard", "version": __version__},
        "model_info": {
            "name": facts.inputs.title,
            "id": model,
            "additional_details": _details(
                {
                    "key": key,
                    "base_model": facts.inputs.base_model,
                    "format": "NVFP4",
                    "deployment_type": "self_deployed",
                    "model_availability": "open_weights",
                }
            ),
        },
        "evaluation_results": results,
    }
    return readable_json(log)


def _divergences(one: Evidence) -> list[dict[str, Any]]:
    texts = one.values["texts"]
    source = {
        "dataset_name": "held-out texts",
        "source_type": "other",
        "additional_details": _details({"sha256": texts["sha256"], **texts["datasets"]}),
    }
    results = []
    for stream in one.values["streams"]:
        for name, (title, unit, lower) in _METRICS.items():
            estimate = stream["all"]["numbers"].get(name)
            if estimate is not None:
                config = _metric(title, name, unit, lower, 1.0 if name in _SHARES else "Infinity")
                results.append(
                    _result(f"{title}, {stream['name']}", source, config, estimate, texts["documents"])
                )
    return results


def _tasks(one: Evidence) -> list[dict[str, Any]]:
    results = []
    for name, task in one.values["tasks"].items():
        source: dict[str, Any] = {"dataset_name": name, "source_type": "other"}
        if name in HUB_TASKS:
            source |= {"source_type": "hf_dataset", "hf_repo": HUB_TASKS[name][0]}
        source["additional_details"] = _details({"prompts_sha256": task["prompts"]})
        config = _metric(str(task["metric"]), name, "proportion", False, 1.0)
        result = _result(name, source, config, task["candidate"], task["questions"] * task["repeats"])
        result["generation_config"] = _sampling(one, task["max_tokens"])
        results.append(result)
    return results


def _builds(one: Evidence) -> list[dict[str, Any]]:
    source = {
        "dataset_name": one.values["name"],
        "source_type": "other",
        "additional_details": _details({"specification_sha256": one.values["specification"]}),
    }
    config = _metric("share of tasks passed", f"agentic.{one.values['name']}", "proportion", False, 1.0)
    count = sum(len(run["tasks"]) for run in one.values["runs"])
    result = _result(one.values["name"], source, config, one.values["score"], count)
    return [result | {"generation_config": _sampling(one, one.values["max_tokens"])}]


def _metric(title: str, name: str, unit: str, lower: bool, most: float | str) -> dict[str, Any]:
    return {
        "evaluation_description": title, "metric_id": name, "metric_name": title, "metric_unit": unit,
        "lower_is_better": lower, "score_type": "continuous", "min_score": 0.0, "max_score": most,
    }  # fmt: skip


def _result(
    name: str, source: dict[str, Any], config: dict[str, Any], estimate: dict[str, Any], count: int
) -> dict[str, Any]:
    details: dict[str, Any] = {"score": estimate["value"], "uncertainty": {"num_samples": count}}
    if estimate["low"] is not None and estimate["high"] is not None:
        details["uncertainty"]["confidence_interval"] = {
            "lower": estimate["low"], "upper": estimate["high"], "confidence_level": 0.95,
        }  # fmt: skip
    return {
        "evaluation_name": name, "source_data": source, "metric_config": config, "score_details": details,
    }  # fmt: skip


def _sampling(one: Evidence, max_tokens: int) -> dict[str, Any]:
    requested = one.values["sampling"]
    known = {
        name: requested[name] for name in ("temperature", "top_p", "top_k") if requested.get(name) is not None
    }
    further = {name: each for name, each in requested.items() if name not in known and name != "max_tokens"}
    return {
        "generation_args": known | {"max_tokens": max_tokens},
        "additional_details": _details(further),
    }


def _details(values: dict[str, Any]) -> dict[str, str]:
    """Every value as a string, as that schema wants it; what is null is left out."""
    return {name: str(each) for name, each in values.items() if each is not None}
