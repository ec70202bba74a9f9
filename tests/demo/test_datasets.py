import json

import pytest

from demo import make_texts

CONVERSATION = [("from", str), ("value", str)]
MESSAGE = [("role", str), ("content", str)]
SCHEMAS = {
    "open_code_reasoning": [
        ("id", str),
        ("input", str),
        ("output", str),
        ("source", str),
        ("license", str),
        ("dataset", str),
        ("split", str),
        ("difficulty", str),
        ("solution", str),
    ],
    "open_math_reasoning": [
        ("expected_answer", str),
        ("problem_type", str),
        ("problem_source", str),
        ("generation_model", str),
        ("pass_rate_72b_tir", str),
        ("problem", str),
        ("generated_solution", str),
        ("inference_mode", str),
        ("used_in_kaggle", bool),
    ],
    "magpie_pro_mt": [
        ("uuid", str),
        ("model", str),
        ("gen_input_config", dict),
        ("conversations", CONVERSATION),
    ],
    "nemotron_post_training_v2": [
        ("uuid", str),
        ("license", str),
        ("generator", str),
        ("version", str),
        ("category", str),
        ("reasoning", str),
        ("messages", MESSAGE),
    ],
    "llama_nemotron": [
        ("input", MESSAGE),
        ("output", str),
        ("category", str),
        ("license", str),
        ("reasoning", str),
        ("generator", str),
        ("used_in_training", list),
        ("version", str),
        ("system_prompt", str),
    ],
}


def read(dataset, split):
    text = (make_texts.DATASETS / dataset / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def check(row, schema):
    assert list(row) == [name for name, _ in schema]
    for name, kind in schema:
        if isinstance(kind, list):
            assert row[name]
            for turn in row[name]:
                check(turn, kind)
        else:
            assert type(row[name]) is kind, name


@pytest.mark.parametrize("dataset", SCHEMAS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_row_has_the_published_columns(dataset, split):
    for row in read(dataset, split):
        check(row, SCHEMAS[dataset])


@pytest.mark.parametrize("dataset", SCHEMAS)
def test_enough_rows_and_no_held_out_text_in_training(dataset):
    train, heldout = read(dataset, "train"), read(dataset, "heldout")
    assert len(train) >= 400
    assert len(heldout) >= 40
    seen = {make_texts.text_key(dataset, row) for row in train}
    assert not seen & {make_texts.text_key(dataset, row) for row in heldout}


def test_generator_reproduces_the_committed_files_byte_for_byte(tmp_path):
    make_texts.write(tmp_path)
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    kept = {
        p.relative_to(make_texts.DATASETS): p.read_bytes()
        for p in make_texts.DATASETS.rglob("*")
        if p.is_file()
    }
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_datasets_stay_small():
    sizes = {p: p.stat().st_size for p in make_texts.DATASETS.rglob("*.jsonl")}
    assert sum(sizes.values()) <= 1_200_000
    assert max(sizes.values()) <= 300_000


def test_tool_rows_declare_and_call():
    called = [row for row in read("llama_nemotron", "train") if row["output"].startswith("<TOOLCALL>")]
    assert len(called) >= 100
    for row in called:
        (call,) = json.loads(row["output"].removeprefix("<TOOLCALL>").removesuffix("</TOOLCALL>"))
        declared = row["system_prompt"].split("<AVAILABLE_TOOLS>")[1].removesuffix("</AVAILABLE_TOOLS>")
        assert call["name"] in [tool["function"]["name"] for tool in json.loads(declared)]


def test_coding_solutions_compile():
    for row in read("open_code_reasoning", "train"):
        compile(row["solution"], "solution", "exec")
        assert row["solution"] in row["output"]


@pytest.mark.parametrize("dataset", SCHEMAS)
def test_the_datasets_library_reads_them(dataset, tmp_path):
    from datasets import load_dataset

    file = str(make_texts.DATASETS / dataset / "train.jsonl")
    table = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path))
    assert table.column_names == [name for name, _ in SCHEMAS[dataset]]
    assert table[0] == read(dataset, "train")[0]
