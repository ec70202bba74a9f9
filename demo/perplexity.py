"""python -m demo.perplexity             # prints the held-out perplexity of demo/model, seconds

How well the stored model predicts texts that it never saw. Measured on the FP8 weights dequantized to
BF16, beside the perplexity of the best unigram model of the very same tokens (their own frequencies).
"""

import hashlib
import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from demo import fp8, tokens
from demo.make_texts import DATASETS, MAKERS, to_messages

MODEL = Path(__file__).parent / "model"


def load_model(folder: Path, dtype: torch.dtype = torch.bfloat16, attention: str = "sdpa") -> PreTrainedModel:
    """The checkpoint's model on a CPU: dequantized to BF16 and, if asked, widened to float32."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "minimax_m2_demo"
        fp8.dequantize_folder(folder, plain)
        model = AutoModelForCausalLM.from_pretrained(
            plain, trust_remote_code=True, dtype=dtype, attn_implementation=attention
        )
    return model.eval()


def heldout_ids(folder: Path) -> list[list[int]]:
    """Token ids of every held-out conversation."""
    tokenizer = tokens.load(folder)
    result = []
    for dataset in MAKERS:
        for line in (DATASETS / dataset / "heldout.jsonl").read_text(encoding="utf-8").splitlines():
            result.append(tokens.encode(tokenizer, to_messages(dataset, json.loads(line))))
    return result


@torch.no_grad()
def model_perplexity(model: PreTrainedModel, sequences: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood, in nats a token; the first token of each is given."""
    total, count = 0.0, 0
    for ids in sequences:
        row = torch.tensor([ids])
        scores = model(input_ids=row, use_cache=False).logits[0, :-1].float()
        total += torch.nn.functional.cross_entropy(scores, row[0, 1:], reduction="sum").item()
        count += len(ids) - 1
    return math.exp(total / count)


def unigram_perplexity(sequences: list[list[int]]) -> float:
    """exp of the entropy of the predicted tokens' frequencies: no unigram model does better on them."""
    counts = Counter(token for ids in sequences for token in ids[1:])
    total = sum(counts.values())
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))


def weights_digest(folder: Path) -> str:
    """sha256 over the shards' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def measure(folder: Path) -> dict:
    """The numbers of the report that follow from the files."""
    sequences = heldout_ids(folder)
    return {
        "heldout_conversations": len(sequences),
        "heldout_tokens": sum(len(ids) - 1 for ids in sequences),
        "model_perplexity": round(model_perplexity(load_model(folder), sequences), 4),
        "unigram_perplexity": round(unigram_perplexity(sequences), 4),
        "weights_sha256": weights_digest(folder),
    }


def write_report(folder: Path, report: Path, training: dict) -> None:
    """Measure and write demo/model_report.json; `training` says how the weights came about."""
    training = {**training, "torch": torch.__version__}
    fp8.write_json(report, {**measure(folder), "training": training})


if __name__ == "__main__":
    print(json.dumps(measure(MODEL), indent=2, sort_keys=True))
