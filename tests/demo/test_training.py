import json
from random import Random

import pytest
import torch

from demo import make_texts, train


@pytest.fixture
def deterministic():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def fresh_model(model_folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_folder, trust_remote_code=True)
    del config.quantization_config
    torch.manual_seed(train.SEED)
    return AutoModelForCausalLM.from_config(config, trust_remote_code=True, dtype=torch.float32)


def test_two_runs_give_the_same_bits(model_folder, heldout, monkeypatch, deterministic):
    monkeypatch.setattr(train, "STEPS", 2)
    monkeypatch.setattr(train, "WARMUP", 1)
    states = []
    for _ in range(2):
        model = fresh_model(model_folder)
        train.train(model, heldout[:12])
        states.append(model.state_dict())
    assert [name for name, t in states[0].items() if not torch.equal(t, states[1][name])] == []
    untrained = fresh_model(model_folder).state_dict()
    # An expert that no token of so few batches chose stays as it was; everything else has moved.
    still = [name for name, t in states[0].items() if torch.equal(t, untrained[name])]
    assert [name for name in still if ".experts." not in name] == []


def test_an_epoch_holds_every_conversation_once():
    rows = [[7] * (1 + i % 60) for i in range(1500)]
    width_sum, seen = 0, []
    stream = train.batches(rows, Random(0))
    while len(seen) < len(rows):
        ids, mask = next(stream)
        assert ids.shape == mask.shape and ids.numel() <= train.BATCH_TOKENS
        assert torch.equal(ids == 7, mask.bool())
        seen += mask.sum(1).tolist()
        width_sum += ids.numel()
    assert sorted(seen) == sorted(map(len, rows))
    assert width_sum < 1.3 * sum(map(len, rows))  # little padding


def test_learning_rate_rises_then_falls():
    rates = [train.learning_rate(step) for step in range(train.STEPS)]
    top = rates.index(max(rates))
    assert top in (train.WARMUP - 1, train.WARMUP)
    assert rates[:top] == sorted(rates[:top])
    assert rates[train.WARMUP :] == sorted(rates[train.WARMUP :], reverse=True)
    assert train.FLOOR <= rates[-1] < 1.01 * train.FLOOR


def test_training_texts_leave_out_the_held_out_ones():
    trained = {json.dumps(messages) for messages in train.conversations()}
    for dataset in make_texts.MAKERS:
        for row in make_texts.splits(dataset)["heldout"]:
            assert make_texts.text_key(dataset, row) not in trained


def test_configuration_file_is_the_declared_one(config):
    assert {key: config[key] for key in train.CONFIG} == train.CONFIG
