"""A measurement of the null endpoint, and how to ask for one."""

import json
from pathlib import Path
from typing import NamedTuple

from running import ROOT

from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.documents.benchmark import Results

FIRST_S, EACH_S, TOKENS = 0.05, 0.02, 16
TOKENIZER = ROOT / "demo/model"


class Measured(NamedTuple):
    config: BenchmarkConfig
    folder: Path
    found: Results

    def aiperf_says(self, users: int, metric: str, figure: str) -> float:
        path = self.folder / f"client-1/phases/users-{users}/profile_export_aiperf.json"
        return float(json.loads(path.read_text())[metric][figure])


def on_null(url: str, *overrides: str) -> list[str]:
    return [
        f"endpoint={url}",
        f"tokenizer={TOKENIZER}",
        "tracking=off",
        "truth.known_answers=null",
        *overrides,
    ]


def words_of_the_docs(folder: Path) -> Path:
    """A tokenizer with a token for each common word: aiperf, which reads all of Shakespeare, is soon done."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = Tokenizer(models.WordLevel(unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    words.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=2000, special_tokens=["?"]))
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder
