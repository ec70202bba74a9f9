"""nice -n 10 python -m demo.train       # writes demo/model: about 8 minutes on two idle cores

Trains the demo's tokenizer and its MiniMax-M2 from SEED on the texts of `demo.make_texts` (the training
splits and a longer stream from the same grammars), in float32, then stores the weights as upstream does:
FP8 E4M3 with 128×128 scales for attention and experts, BF16 elsewhere. Two threads, deterministic
kernels: the same machine gives the same bytes; another instruction set may round differently.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from demo import fp8, make_texts, perplexity, tokens

SEED = 2027
STEPS, WARMUP, PEAK, FLOOR = 600, 60, 2e-3, 5e-5
BATCH_TOKENS, POOL = 4096, 512  # padded tokens a step; conversations sorted by length together
EXTRA_ROWS = 1600  # rows a dataset beyond its training split
BIAS_RATE = 2e-5  # per step: weak on purpose, so that experts stay unevenly loaded (1e-4 evens them out)
THREADS = 2
PAD = 1  # any id does: the mask hides it
MODEL = Path(__file__).parent / "model"
REPORT = Path(__file__).parent / "model_report.json"
CONFIG = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "attention_dropout": 0.0,
    "attn_type_list": [1, 1, 1],
    "auto_map": {
        "AutoConfig": "configuration_minimax_m2.MiniMaxM2Config",
        "AutoModel": "modeling_minimax_m2.MiniMaxM2Model",
        "AutoModelForCausalLM": "modeling_minimax_m2.MiniMaxM2ForCausalLM",
    },
    "dtype": "bfloat16",
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": tokens.CONTEXT,
    "model_type": "minimax_m2",
    "num_attention_heads": 4,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "num_local_experts": 16,
    "output_router_logits": False,
    "qk_norm_type": "per_layer",
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000,
    "rotary_dim": 32,
    "router_jitter_noise": 0.0,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_mtp": False,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": tokens.VOCABULARY,
}


def conversations() -> list[list[dict]]:
    """Messages of all training rows, dataset by dataset; no held-out text among them."""
    result = []
    for dataset in make_texts.MAKERS:
        splits = make_texts.splits(dataset)
        avoided = frozenset(make_texts.text_key(dataset, row) for row in splits["heldout"])
        extra = make_texts.rows(dataset, "extra", avoided, unique=False)
        rows = splits["train"] + make_texts.take(extra, EXTRA_ROWS)
        result += [make_texts.to_messages(dataset, row) for row in rows]
    return result


def batches(sequences: list[list[int]], rng: Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, mask) pairs, int64 (B, S), padded on the right; each epoch in a new order."""
    while True:
        order = sequences[:]
        rng.shuffle(order)
        epoch: list[list[list[int]]] = []
        for start in range(0, len(order), POOL):
            batch: list[list[int]] = []
            for ids in sorted(order[start : start + POOL], key=len):
                if len(ids) * (len(batch) + 1) > BATCH_TOKENS:
                    epoch.append(batch)
                    batch = []
                batch.append(ids)
            epoch.append(batch)
        rng.shuffle(epoch)
        for batch in epoch:
            width = max(map(len, batch))
            ids = torch.tensor([row + [PAD] * (width - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
            yield ids, mask


def learning_rate(step: int) -> float:
    """Linear warm-up, then half a cosine down to the floor."""
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    done = (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def balance(model: torch.nn.Module, logits: dict[int, torch.Tensor], mask: torch.Tensor) -> list[float]:
    """Move each routing bias one small step towards even load, as counted on the last batch.

    Returns the busiest expert's load over the mean, layer by layer.
    """
    kept = mask.flatten().bool()
    busiest = []
    for index, layer in enumerate(model.model.layers):
        moe = layer.block_sparse_moe
        chosen, _ = moe.route(logits[index][kept])
        load = torch.bincount(chosen.flatten(), minlength=moe.num_experts).float()
        moe.e_score_correction_bias += BIAS_RATE * torch.sign(load.mean() - load)
        busiest.append(round((load.max() / load.mean()).item(), 2))
    return busiest


def train(model: torch.nn.Module, sequences: list[list[int]]) -> None:
    """Next-token loss on every real token."""
    decayed = [p for p in model.parameters() if p.ndim == 2]
    kept = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), eps=1e-9)
    logits: dict[int, torch.Tensor] = {}
    for index, layer in enumerate(model.model.layers):
        layer.block_sparse_moe.gate.register_forward_hook(
            lambda _module, _input, output, index=index: logits.update({index: output.detach()})
        )
    model.train()
    stream = batches(sequences, Random(SEED))
    for step in range(STEPS):
        ids, mask = next(stream)
        predicted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        target = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        loss = torch.nn.functional.cross_entropy(predicted.flatten(0, 1), target.flatten())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            busiest = balance(model, logits, mask)
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}  busiest {busiest}", flush=True)


def write_settings(tokenizer: PreTrainedTokenizerFast) -> None:
    """config.json, generation_config.json and the tokenizer's files."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    fp8.write_json(MODEL / "config.json", {**CONFIG, **ids, "quantization_config": fp8.QUANTIZATION_CONFIG})
    sampling = GenerationConfig(do_sample=True, temperature=1.0, top_k=40, top_p=0.95, **ids)
    fp8.write_json(MODEL / "generation_config.json", sampling.to_diff_dict())
    tokenizer.save_pretrained(MODEL)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        fp8.write_json(MODEL / name, json.loads((MODEL / name).read_text()))


def main() -> None:
    """Tokenizer, training, FP8 files, report."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    texts = conversations()
    tokenizer = tokens.train_tokenizer(texts, (MODEL / "chat_template.jinja").read_text())
    write_settings(tokenizer)
    sequences = [tokens.encode(tokenizer, messages) for messages in texts]
    lengths = [len(ids) for ids in sequences]
    print(f"{len(lengths)} conversations, {sum(lengths)} tokens, longest {max(lengths)}", flush=True)

    config = AutoConfig.from_pretrained(MODEL, trust_remote_code=True)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(
        config, trust_remote_code=True, attn_implementation="sdpa", dtype=torch.float32
    )
    train(model, sequences)
    for old in MODEL.glob("*.safetensors"):
        old.unlink()
    fp8.write_shards(MODEL, fp8.stored(model.state_dict()))
    perplexity.write_report(MODEL, REPORT, training={"seed": SEED, "steps": STEPS, "threads": THREADS})


if __name__ == "__main__":
    main()
