"""Every adapter on rows of its dataset's true columns, held to ModelOpt's own reading of them."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from proofcard import deciding
from proofcard.bundle import bundled
from proofcard.calibration.adapters import adapter
from proofcard.calibration.batches import batches
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.rows import UnreadableRow
from proofcard.calibration.sampling import sample
from proofcard.config import QuantizeConfig, compose
from proofcard.toolchain import installed

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
ROWS: dict[str, dict[str, Any]] = {
    "open_code_reasoning": {
        "id": "0a1b", "input": "Sort these.", "output": "<think>\nEasy.\n</think>\nsorted(x)",
        "source": "aizu", "license": "apache-2.0", "dataset": "taco", "split": "train", "difficulty": "2",
        "solution": "sorted(x)",
    },
    "open_math_reasoning": {
        "expected_answer": "2", "problem_type": "has_answer_extracted", "problem_source": "aops_c6",
        "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.9", "problem": "1+1?",
        "generated_solution": "<think>2</think> \\boxed{2}", "inference_mode": "cot", "used_in_kaggle": True,
    },
    "magpie_pro_mt": {
        "uuid": "u", "model": "Llama-3-70B", "gen_input_config": {"temperature": 1.0, "top_p": 1.0},
        "conversations": [
            {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "And?"}, {"from": "gpt", "value": "Well."},
        ],
    },
    "nemotron_post_training_v2": {
        "uuid": "u", "license": "cc-by-4.0", "generator": "Qwen3", "version": "v2", "category": "stem",
        "reasoning": "off",
        "messages": [
            {"role": "system", "content": ""}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
        ],
    },
    "nemotron_post_training_v1": {
        "uuid": "u", "license": "cc-by-4.0", "generator": "Qwen3", "version": "v1",
        "category": "tool_calling", "reasoning": "on", "metadata": json.dumps({"tools": [TOOL]}),
        "messages": [
            {"role": "user", "content": "1+2?", "tool_calls": []},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "3", "tool_calls": []},
            {"role": "assistant", "content": "3", "tool_calls": []},
        ],
    },
    "llama_nemotron": {
        "input": [{"role": "user", "content": "Hi"}], "output": "Hello", "category": "chat",
        "license": "cc-by-4.0", "reasoning": "on", "generator": "DeepSeek-R1",
        "used_in_training": ["Ultra"], "version": "v1.1", "system_prompt": "detailed thinking on",
    },
    "cnn_dailymail": {"article": "(CNN) It rained.", "highlights": "Rain.", "id": "00ff"},
    "text": {"text": "Once upon a time"},
}  # fmt: skip
ROWS["llama_nemotron_turns"] = ROWS["llama_nemotron"]
ROLES = {
    "magpie_pro_mt": ["user", "assistant"] * 2,
    "nemotron_post_training_v2": ["system", "user", "assistant"],
    "nemotron_post_training_v1": ["user", "assistant", "tool", "assistant"],
    "llama_nemotron": ["system", "user", "assistant"],
    "cnn_dailymail": ["user"],
    "text": ["user"],
}
THEIRS = {
    "open_code_reasoning": "open_code_reasoning",
    "open_math_reasoning": "open_math_reasoning",
    "magpie_pro_mt": "magpie",
    "nemotron_post_training_v2": "nemotron-post-training-dataset-v2",
    "nemotron_post_training_v1": "nemotron-post-training-dataset-v1",
    "llama_nemotron": "llama-nemotron-post-training-dataset",
    "llama_nemotron_turns": "llama-nemotron-post-training-dataset",
    "cnn_dailymail": "cnn_dailymail",
    "text": "pile",
}


@pytest.mark.parametrize("name", deciding.adapters())
def test_each_schema_becomes_messages(name: str) -> None:
    messages = adapter(name)(ROWS[name]).messages
    assert [message["role"] for message in messages] == ROLES.get(name, ["user", "assistant"])
    assert all(isinstance(message["content"], str) for message in messages)


@pytest.fixture(scope="module")
def modelopts() -> ModuleType:
    """ModelOpt's module of datasets as it is installed, which needs no other of its own.

    A plan made in this process may have left a patched ModelOpt.
    """
    file = installed.find("nvidia-modelopt").site / "modelopt/torch/utils/dataset_utils.py"
    spec = spec_from_file_location("modelopts_datasets", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", deciding.adapters())
def test_the_plain_text_is_modelopt_s(modelopts: ModuleType, name: str) -> None:
    preprocess = modelopts.SUPPORTED_DATASET_CONFIG[THEIRS[name]]["preprocess"]
    assert adapter(name)(ROWS[name]).text == preprocess(ROWS[name])


def test_the_system_prompt_switches_the_reasoning() -> None:
    said = adapter("llama_nemotron")(ROWS["llama_nemotron"])
    assert said.messages[0] == {"role": "system", "content": "detailed thinking on"}
    without = adapter("llama_nemotron")(ROWS["llama_nemotron"] | {"system_prompt": None})
    assert (
        without.messages
        == said.messages[1:]
        == adapter("llama_nemotron_turns")(ROWS["llama_nemotron"]).messages
    )


def test_tools_and_calls_reach_the_template() -> None:
    said = adapter("nemotron_post_training_v1")(ROWS["nemotron_post_training_v1"])
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    with Renderer(tokenizer) as renderer:
        text = renderer.render(said)
    assert '<AVAILABLE_TOOLS>[{"type": "function", "function": {"name": "add"' in text
    assert '<TOOLCALL>[{"name": "add", "arguments": {"a": 1, "b": 2}}]</TOOLCALL>' in text
    assert "<|tool|>3<|end|>" in text


def test_a_conversation_that_the_template_refuses_is_of_another_shape() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with Renderer(tokenizer) as renderer, pytest.raises(UnreadableRow, match="refused by the chat template"):
        renderer.render(adapter("text")(ROWS["text"]))


@pytest.mark.parametrize("name", deciding.adapters())
@pytest.mark.parametrize("row", [{}, {"text": None, "messages": [{}]}, {"input": 3, "output": None}])
def test_a_row_of_another_shape_is_refused(name: str, row: dict[str, Any]) -> None:
    with pytest.raises(UnreadableRow):
        adapter(name)(row)


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("open_code_reasoning", {"output": None}, "output is not a text"),
        ("open_math_reasoning", {"problem": " ", "generated_solution": "\n"}, "no text"),
        ("magpie_pro_mt", {"conversations": "Hi"}, "conversations is not a list"),
        ("magpie_pro_mt", {"conversations": ["Hi"]}, "a turn of conversations is not a record"),
        ("magpie_pro_mt", {"conversations": [{"from": "bard", "value": "Hi"}]}, "has an unknown from"),
        ("nemotron_post_training_v2", {"messages": [{"role": "user"}]}, "no content"),
        ("nemotron_post_training_v2", {"messages": []}, "no text"),
        ("nemotron_post_training_v1", {"metadata": "{tools"}, "metadata is not JSON"),
        ("nemotron_post_training_v1", {"metadata": '{"tools": [3]}'}, "a tool is not a record"),
        ("nemotron_post_training_v1", {"messages": [{"role": "user", "content": None, "tool_calls": [3]}]},
         "a tool call is not a record"),
        ("llama_nemotron", {"system_prompt": 3}, "system_prompt is not a text"),
    ],
)  # fmt: skip
def test_the_reason_names_the_column_and_never_the_text(
    name: str, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnreadableRow, match=reason) as refused:
        adapter(name)(ROWS[name] | changed)
    assert "Hi" not in str(refused.value)


def folder_of(dataset: str, splits: list[str], subset: str | None, root: Path) -> Path:
    """A local copy under ModelOpt's name for it: rows of the true schema, with the README of the hub."""
    folder = root / THEIRS[dataset]
    folder.mkdir()
    configs = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    named = f"- config_name: {subset or 'default'}\n  data_files:\n{configs}"
    (folder / "README.md").write_text(f"---\nconfigs:\n{named}---\n")
    (folder / "data").mkdir()
    for at, split in enumerate(splits):
        rows = [varied(dataset, 7 * at + n) for n in range(12)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "data" / f"{split}-00000.jsonl").write_text(lines)
    return folder


def varied(dataset: str, n: int) -> dict[str, Any]:
    """The dataset's row with other words in it, some of them long."""
    text = json.dumps(ROWS[dataset])
    for word in ("Hello", "Sort these.", "1+1?", "It rained."):
        text = text.replace(word, f"{word} sample {n} " * (1 + n * n % 11))
    row: dict[str, Any] = json.loads(text)
    return row


def test_token_ids_are_those_of_modelopt_s_data_loader(modelopts: ModuleType, tmp_path: Path) -> None:
    asked = {name: 6 + n for n, name in enumerate(five())}
    folders = {
        name: folder_of(name, list(dataset.splits), dataset.subset, tmp_path)
        for name, dataset in five().items()
    }
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model", padding_side="left")
    loader = modelopts.get_dataset_dataloader(
        list(map(str, folders.values())), tokenizer, num_samples=list(asked.values()), max_sample_length=40,
        batch_size=4,
    )  # fmt: skip
    theirs = [batch["input_ids"].tolist() for batch in loader]
    overrides = [f"calibration.datasets.{name}.path={folder}" for name, folder in folders.items()]
    overrides += [f"calibration.datasets.{name}.samples={count}" for name, count in asked.items()]
    config = as_run(*overrides, "calibration.sampling.method=first", "calibration.sequence_length=40")
    samples = [one.token_ids for name in asked for one in sample(config.calibration, tokenizer, name)[0]]
    assert len(samples) == sum(asked.values())
    assert len({len(ids) for ids in samples}) > 1
    ours = list(batches(samples, config.calibration, tokenizer.pad_token_id))
    assert [batch.input_ids.tolist() for batch in ours] == theirs


def as_run(*overrides: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", ["calibration=five_domains_as_run", *overrides])


def five() -> dict[str, Any]:
    return as_run().calibration.datasets
