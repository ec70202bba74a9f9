import json

import pytest
import torch

from demo import fp8, known
from demo.perplexity import DATASETS, load_model, model_perplexity, unigram_perplexity, weights_digest

REPORT = json.loads((DATASETS.parent / "model_report.json").read_text())
ANSWERS = json.loads(known.ANSWERS.read_text())


def padded(rows, side, pad):
    """ids and mask, padded on one side to the longest row."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = [pad] * (width - len(row))
        ids.append(fill + row if side == "left" else row + fill)
        ones, zeros = [1] * len(row), [0] * len(fill)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return torch.tensor(ids), torch.tensor(mask)


@pytest.fixture(scope="module")
def wide_model(model_folder):
    """float32: differences are then the order of additions and no more."""
    return load_model(model_folder, torch.float32)


def test_loads_through_remote_code_without_missing_or_unexpected_keys(model_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    fp8.dequantize_folder(model_folder, tmp_path / "plain")
    model, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", trust_remote_code=True, dtype=torch.bfloat16, output_loading_info=True
    )
    assert {name: list(keys) for name, keys in info.items()} == {
        "missing_keys": [],
        "unexpected_keys": [],
        "mismatched_keys": [],
        "error_msgs": [],
    }
    assert type(model).__module__.startswith("transformers_modules.")
    expected = fp8.dequantized_state(model_folder)
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert [n for n, t in expected.items() if state[n].dtype != t.dtype or not torch.equal(state[n], t)] == []


def test_report_is_of_these_weights(model_folder):
    assert weights_digest(model_folder) == REPORT["weights_sha256"]


@pytest.fixture(scope="module")
def one_thread():
    """Products of matrices as small as these take less work on one core than on several."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture(scope="module")
def heldout_pass(wide_model, heldout, one_thread):
    """The perplexity of the held-out conversations, and how many of their tokens each expert had."""
    model = wide_model
    loads = [torch.zeros(moe.num_experts) for moe in (layer.block_sparse_moe for layer in model.model.layers)]
    hooks = []
    for load, layer in zip(loads, model.model.layers, strict=True):
        moe = layer.block_sparse_moe

        def count(_module, _inputs, logits, moe=moe, load=load):
            load += torch.bincount(moe.route(logits)[0].flatten(), minlength=moe.num_experts)

        hooks.append(moe.gate.register_forward_hook(count))
    perplexity = model_perplexity(model, heldout)
    for hook in hooks:
        hook.remove()
    return perplexity, loads


def test_heldout_perplexity(heldout_pass, heldout):
    ours, unigram = heldout_pass[0], unigram_perplexity(heldout)
    assert ours * 10 < unigram
    # The report's is in BF16, which rounds differently on another instruction set; the texts and weights are
    # the same.
    assert ours == pytest.approx(REPORT["model_perplexity"], rel=0.01)
    assert unigram == pytest.approx(REPORT["unigram_perplexity"], abs=1e-3)


def test_rounding_to_bf16_hardly_changes_the_perplexity(model, wide_model, heldout, one_thread):
    some = heldout[::20]
    assert model_perplexity(model, some) == pytest.approx(model_perplexity(wide_model, some), rel=0.005)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_with_a_mask_changes_nothing(model_folder, heldout, tokenizer, side, attention):
    model = load_model(model_folder, torch.float32, attention)
    rows = sorted(heldout[::20], key=len)
    assert len(rows[0]) < len(rows[-1])
    ids, mask = padded(rows, side, tokenizer.pad_token_id)
    together = model(input_ids=ids, attention_mask=mask).logits
    for row, scores, kept in zip(rows, together, mask.bool(), strict=True):
        alone = model(input_ids=torch.tensor([row])).logits[0]
        torch.testing.assert_close(scores[kept], alone, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_left_padding_without_a_mask_does_change_something(wide_model, heldout, tokenizer):
    # The reason why calibration must pass the mask on: pads are real tokens to the attention.
    rows = [heldout[0], heldout[-1]]
    rows.sort(key=len)
    ids, mask = padded(rows, "left", tokenizer.pad_token_id)
    assert len(rows[0]) < len(rows[1])
    masked = wide_model(input_ids=ids, attention_mask=mask).logits[0, -1]
    unmasked = wide_model(input_ids=ids).logits[0, -1]
    assert (masked - unmasked).abs().max() > 0.1


@torch.no_grad()
def test_eager_and_scaled_dot_product_attention_agree(model_folder, wide_model, heldout):
    eager = load_model(model_folder, torch.float32, "eager")
    for row in heldout[::25]:
        ids = torch.tensor([row])
        one, other = wide_model(input_ids=ids).logits, eager(input_ids=ids).logits
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_generation_with_and_without_cache(wide_model, tokenizer):
    prompts = [
        tokenizer.apply_chat_template(answer["messages"], add_generation_prompt=True)
        for answer in ANSWERS[::4]
    ]
    ids, mask = padded(prompts, "left", tokenizer.pad_token_id)
    options = {"do_sample": False, "top_k": None, "top_p": None, "max_new_tokens": 24}
    cached = wide_model.generate(input_ids=ids, attention_mask=mask, use_cache=True, **options)
    plain = wide_model.generate(input_ids=ids, attention_mask=mask, use_cache=False, **options)
    assert torch.equal(cached, plain)


@torch.no_grad()
def test_cache_in_two_pieces_gives_the_logits_of_one(wide_model, heldout):
    ids = torch.tensor([max(heldout, key=len)])
    whole = wide_model(input_ids=ids).logits
    first = wide_model(input_ids=ids[:, :20], use_cache=True)
    rest = wide_model(input_ids=ids[:, 20:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat((first.logits, rest.logits), 1), whole, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_hidden_states_and_kept_logits(wide_model, heldout):
    ids = torch.tensor([heldout[0]])
    full = wide_model(input_ids=ids, output_hidden_states=True, labels=ids)
    assert len(full.hidden_states) == wide_model.config.num_hidden_layers + 1
    last = wide_model(input_ids=ids, logits_to_keep=1).logits
    torch.testing.assert_close(last, full.logits[:, -1:])
    expected = torch.nn.functional.cross_entropy(full.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(full.loss, expected)


def test_routing_is_uneven_but_no_expert_is_dead(model, heldout, heldout_pass):
    loads = heldout_pass[1]
    tokens = sum(map(len, heldout))
    for load in loads:
        assert load.sum() == tokens * model.config.num_experts_per_tok
        assert load.min() > 0
        # Even routing would give 1, by chance up to about 1.06 with some 4,100 tokens an expert.
        assert load.max() > 1.2 * load.min()
    assert max(load.max() / load.min() for load in loads) > 3


def test_route_follows_its_definition(model):
    moe = model.model.layers[0].block_sparse_moe
    logits = torch.randn(5, moe.num_experts, generator=torch.Generator().manual_seed(0))
    chosen, weights = moe.route(logits)
    for row, picked, given in zip(logits, chosen, weights, strict=True):
        scores = [1 / (1 + torch.exp(-x).item()) for x in row]
        biased = [s + b for s, b in zip(scores, moe.e_score_correction_bias.tolist(), strict=True)]
        best = sorted(range(len(biased)), key=lambda i: -biased[i])[: moe.top_k]
        assert sorted(picked.tolist()) == sorted(best)
        total = sum(scores[i] for i in best)
        for expert, weight in zip(picked.tolist(), given.tolist(), strict=True):
            assert weight == pytest.approx(scores[expert] / total, abs=1e-6)


def test_routing_bias_stays_float32_and_is_in_use(model):
    for layer in model.model.layers:
        bias = layer.block_sparse_moe.e_score_correction_bias
        assert bias.dtype == torch.float32
        assert bias.abs().max() > 0


def test_casting_the_model_does_not_round_the_rotary_frequencies(model_folder):
    wide = load_model(model_folder, torch.float32)
    cast = load_model(model_folder, torch.float32).to(torch.bfloat16).float()
    position = torch.tensor([[0, 1, 777, 4000]])
    for one, other in zip(
        wide.model.rotary_emb(torch.zeros(1), position),
        cast.model.rotary_emb(torch.zeros(1), position),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_configuration_refuses_what_the_code_does_not_do(model):
    for wrong in ({"scoring_func": "softmax"}, {"use_qk_norm": False}, {"rotary_dim": 65}):
        with pytest.raises(ValueError):
            type(model.config)(**wrong)


def test_known_answers_are_the_questions_of_the_texts():
    assert known.questions() == ANSWERS
    assert len({answer["dataset"] for answer in ANSWERS}) == 5


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: a["messages"][-1]["content"])
def test_known_answer(model, tokenizer, answer):
    assert answer["expected"] in known.answer(model, tokenizer, answer["messages"])
