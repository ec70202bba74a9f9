"""Which names may stand beside sealed content."""

import pytest
from running import ROOT

from proofcard.beside_seal import in_short, may_lie_beside


@pytest.mark.parametrize(
    "name",
    [
        "README.md", ".gitattributes", "model.sig", "manifest.json.sigstore.json", "provenance.intoto.jsonl",
        "bom.cdx.json", ".eval_results/mmlu_pro.yaml", ".cache/huggingface/download/config.json.metadata",
        ".cache/huggingface/.gitignore", ".proofcard/card.json", ".proofcard/throughput.svg",
    ],
)  # fmt: skip
def test_it_may(name: str) -> None:
    assert may_lie_beside(name)


@pytest.mark.parametrize(
    "name",
    [
        "readme.md", "README.md.bak", "docs/README.md", "sub/model.sig", "evil.py", "pytorch_model.bin",
        ".env", "model.safetensors", "generation_config.json", ".eval_results/run.py",
        ".eval_results/a/b.yaml", ".proofcard/run.py", ".proofcard/a/b.json",
        ".cache/other", ".cache/huggingfaces/x", "x/.cache/huggingface/y", ".cache/huggingface",
        "manifest.json",
    ],
)  # fmt: skip
def test_it_may_not(name: str) -> None:
    assert not may_lie_beside(name)


def test_the_specification_names_every_rule() -> None:
    text = (ROOT / "docs" / "manifest.md").read_text()
    from proofcard import beside_seal

    inside = [f"{folder}/{name}" for folder, names in beside_seal._FOLDERS.items() for name in names]
    rules = [*beside_seal._FILES, *inside]
    assert all(f"`{rule}`" in text for rule in [*rules, *(f"{tree}/**" for tree in beside_seal._TREES)])


def test_many_of_them_are_one_word_each() -> None:
    names = [".cache/huggingface/download/a.lock", ".cache/huggingface/.gitignore", "README.md", "model.sig"]
    assert in_short(names) == ["README.md", "model.sig", ".cache/huggingface (2 files)"]
    assert in_short([".proofcard/card.json", "README.md"]) == [".proofcard/card.json", "README.md"]
    assert in_short([".proofcard/a.json", ".proofcard/b.svg"]) == [".proofcard (2 files)"]
