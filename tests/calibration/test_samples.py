"""The same seed gives the same samples, everywhere and for every batch size."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from proofcard.bundle import bundled
from proofcard.calibration.batches import batches, read_index, read_samples
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.rows import Conversation
from proofcard.calibration.sample_set import describe, make
from proofcard.calibration.sampling import choose, sample, tokenized
from proofcard.config import QuantizeConfig, compose
from proofcard.config.schema import Dataset
from proofcard.errors import Stop
from proofcard.manifest import key_of


class Words:
    """A tokenizer of one number per word; its template names each role."""

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, **_: object) -> str:
        assert not tokenize
        return " ".join(f"<{message['role']}> {message['content']}" for message in messages)

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * add_special_tokens + self._ids(text) for text in texts]}

    def _ids(self, text: str) -> list[int]:
        return [int(hashlib.sha256(word.encode()).hexdigest()[:4], 16) for word in text.split()]


def texts(path: Path, count: int = 50) -> Dataset:
    path.write_text(
        "".join(json.dumps({"text": f"sample number {n} " * (n % 7 + 1)}) + "\n" for n in range(count))
    )
    return Dataset(
        adapter="text",
        repository="local",
        revision=None,
        subset=None,
        splits=("train",),
        path=path,
        samples=9,
    )


def recipe(path: Path, *overrides: str) -> QuantizeConfig:
    said = ["calibration=text", "calibration.chat_template=false", f"calibration.datasets.text.path={path}"]
    return compose(QuantizeConfig, "config", [*said, "calibration.datasets.text.samples=9", *overrides])


@pytest.mark.parametrize("files", [1, 3])
def test_the_shuffle_is_the_library_s_own(tmp_path: Path, files: int) -> None:
    from datasets import load_dataset

    lines = (texts(tmp_path / "t.jsonl", 500).path or Path()).read_text().splitlines(keepends=True)
    folder = tmp_path / "cut"
    folder.mkdir()
    for n in range(files):
        (folder / f"{n}.jsonl").write_text("".join(lines[n * 500 // files : (n + 1) * 500 // files]))
    overrides = (f"calibration.datasets.text.path={folder}", "calibration.sampling.buffer_size=200")
    chosen, _ = sample(recipe(folder, *overrides).calibration, Words(), "text")
    theirs = load_dataset("json", data_files=str(folder / "*"), split="train", streaming=True)
    rows = [row["text"] for row in theirs.shuffle(seed=42, buffer_size=200).take(9)]
    assert [one.text_sha256 for one in chosen] == [hashlib.sha256(row.encode()).hexdigest() for row in rows]
    assert [one.row for one in chosen] != sorted(one.row for one in chosen)
    if files == 1:
        assert [json.loads(lines[one.row])["text"] for one in chosen] == rows


def test_rows_are_those_that_the_library_reads_one_by_one(tmp_path: Path) -> None:
    """Columns that some rows do not have, lists of records, texts with every kind of character."""
    from datasets import load_dataset

    rows = [
        {"text": f"\u2028{n}\x00é", "turns": [{"role": "user", "n": i} for i in range(n % 3)]}
        | ({"extra": {"a": n, "b": None}} if n % 5 else {})
        | ({"score": n / 3} if n > 70 else {})
        for n in range(150)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = load_dataset("json", data_files=str(path), split="train", streaming=True)
    method = recipe(path, "calibration.sampling.method=first").calibration.sampling
    found, _ = choose(stream, 140, method, json.dumps)
    assert [(index, json.loads(row)) for index, row in found] == list(enumerate(stream.take(140)))


def test_first_takes_the_first(tmp_path: Path) -> None:
    config = recipe(texts(tmp_path / "t.jsonl").path or Path(), "calibration.sampling.method=first")
    chosen, _ = sample(config.calibration, Words(), "text")
    assert [one.row for one in chosen] == list(range(9))


def test_the_seed_decides(tmp_path: Path) -> None:
    texts(tmp_path / "t.jsonl")
    rows = []
    for seed in (42, 42, 43):
        config = recipe(tmp_path / "t.jsonl", f"calibration.sampling.seed={seed}")
        rows.append([one.record() for one in sample(config.calibration, Words(), "text")[0]])
    assert rows[0] == rows[1] != rows[2]


def test_truncation_is_recorded(tmp_path: Path) -> None:
    texts(tmp_path / "t.jsonl")
    config = recipe(tmp_path / "t.jsonl", "calibration.sequence_length=5")
    chosen, _ = sample(config.calibration, Words(), "text")
    assert max(len(one.token_ids) for one in chosen) == 5
    assert {one.truncated for one in chosen} == {True, False}


def test_rows_of_another_shape_are_counted_and_too_few_stop(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": "words" if n % 2 else " "}) + "\n" for n in range(18)))
    chosen, skipped = sample(recipe(path).calibration, Words(), "text")
    assert len(chosen) == 9
    assert skipped.keys() == {"no text"}
    assert 0 < skipped["no text"] <= 9
    with pytest.raises(Stop, match=r"9 usable rows.*skipped 9.*no text: 9.*needs 10"):
        sample(recipe(path, "calibration.datasets.text.samples=10").calibration, Words(), "text")


@pytest.mark.parametrize("method", ["first", "shuffle_buffer", "uniform"])
def test_another_dataset_is_noticed_after_a_thousand_rows(tmp_path: Path, method: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"body": f"words {n}"}) + "\n" for n in range(5000)))
    wanted = "calibration.datasets.text.samples=2000"
    with pytest.raises(
        Stop, match=r"adapter text cannot read any of the first 1,000 rows of train \(no text: 1000"
    ):
        sample(recipe(path, f"calibration.sampling.method={method}", wanted).calibration, Words(), "text")


def test_the_demo_s_sample_set_is_the_same_in_two_folders(tmp_path: Path) -> None:
    sets = []
    for name in ("a", "b"):
        config = compose(QuantizeConfig, "config", [f"work_dir={tmp_path / name}"])
        sets.append(make(config, describe(config), tmp_path / name / "samples"))
    assert sets[0] == sets[1]
    for file in ("manifest.json", "samples.jsonl", "tokens.safetensors"):
        one, other = (tmp_path / name / "samples" / file for name in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()
    index = read_index(tmp_path / "a" / "samples")
    tokens = read_samples(tmp_path / "a" / "samples")
    assert len(index) == len(tokens) == sets[0].statistics["samples"] == 80
    for record, ids in zip(index, tokens, strict=True):
        assert hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest() == record["tokens_sha256"]
        assert 0 < len(ids) == record["tokens"] <= 128


def test_the_key_ignores_batches_and_knows_everything_else() -> None:
    def key(*overrides: str) -> str:
        return key_of("samples", **describe(compose(QuantizeConfig, "config", list(overrides))))

    assert key() == key("calibration.batch_size=7", "calibration.padding_side=right")
    assert key() == key("kv_cache=none", "seed=9", "hardware=cpu")
    assert key() != key("calibration.sampling.seed=43")
    assert key() != key("calibration.sequence_length=64")
    assert key() != key("calibration.datasets.magpie_pro_mt.samples=15")


def test_a_template_that_writes_the_day_gives_the_same_text_every_day() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    tokenizer.chat_template = "{{ strftime_now('%d %B %Y') }}: {{ messages[0].content }}"
    said = Conversation(({"role": "user", "content": "Hi"},), "Hi")
    with Renderer(tokenizer) as renderer:
        assert renderer.render(said) == "01 January 2025: Hi"


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_hold_the_samples_whatever_their_size(side: str) -> None:
    samples = [np.arange(1, n + 2, dtype=np.int32) for n in (3, 1, 5, 2, 4)]
    for size in (1, 2, 5, 9):
        config = compose(
            QuantizeConfig, "config", [f"calibration.batch_size={size}", f"calibration.padding_side={side}"]
        )
        made = list(batches(samples, config.calibration, pad_id=0))
        unpadded = [
            ids[mask == 1] for b in made for ids, mask in zip(b.input_ids, b.attention_mask, strict=True)
        ]
        assert all(np.array_equal(one, other) for one, other in zip(samples, unpadded, strict=True))
        if size == 2:
            assert made[0].input_ids.tolist() == (
                [[1, 2, 3, 4], [0, 0, 1, 2]] if side == "left" else [[1, 2, 3, 4], [1, 2, 0, 0]]
            )


@pytest.mark.parametrize("template", [True, False])
def test_texts_are_tokenized_together_as_they_are_alone(template: bool) -> None:
    """Of a tokenizer that was saved with padding and truncation, too."""
    from transformers import AutoTokenizer

    calibration = recipe(Path("t.jsonl"), "calibration.sequence_length=40").calibration
    calibration = calibration.model_copy(update={"chat_template": template})
    tokenizer = AutoTokenizer.from_pretrained(bundled("demo") / "model")
    texts = [
        "",
        "a",
        "wörter 日本語 \U0001f600\x00",
        "one two " * 300,
        *(f"number {n} " * n for n in range(9)),
    ]
    alone = [tokenizer(text, add_special_tokens=not template)["input_ids"] for text in texts]
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.backend_tokenizer.enable_truncation(5)
    found = tokenized(texts, tokenizer, calibration)
    assert [ids.tolist() for ids, _ in found] == [ids[:40] for ids in alone]
    assert [cut for _, cut in found] == [len(ids) > 40 for ids in alone]
    assert {cut for _, cut in found} == {True, False}
