"""Routes read from a gate's answer, and how far two of them are apart."""

from types import SimpleNamespace

import torch

from proofcard.evaluate import routing


def test_logits_are_chosen_by_softmax_or_by_sigmoid_and_bias() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    experts, weights = routing.chosen(SimpleNamespace(top_k=2), logits) or (None, None)
    assert experts is not None and sorted(experts[0].tolist()) == [0, 1]
    assert torch.allclose(weights, torch.softmax(logits[:, :2], dim=-1))
    block = SimpleNamespace(top_k=2, e_score_correction_bias=torch.tensor([0.0, 0.0, 0.0, 9.0]))
    experts, weights = routing.chosen(block, logits) or (None, None)
    assert experts is not None and experts[0].tolist() == [3, 0]  # the bias chooses, and weighs nothing
    scores = logits.sigmoid()[0]
    assert torch.allclose(weights[0], torch.stack([scores[3], scores[0]]) / (scores[3] + scores[0]))


def test_a_gate_that_chooses_is_taken_at_its_word_and_others_are_not_guessed() -> None:
    answer = (torch.tensor([[1, 3]]), torch.tensor([[0.6, 0.2]]))
    experts, weights = routing.chosen(SimpleNamespace(), answer) or (None, None)
    assert experts is not None and experts.tolist() == [[1, 3]]
    assert torch.allclose(weights, torch.tensor([[0.75, 0.25]]))
    assert routing.chosen(SimpleNamespace(), torch.zeros(1, 4)) is None
    assert routing.chosen(SimpleNamespace(top_k=2), (torch.zeros(1, 4),)) is None


def test_rows_tell_whether_the_choice_was_the_blocks_own() -> None:
    experts = torch.tensor([[0, 1], [1, 2]])
    assert routing.agrees(experts, [1, 2, 1, 0])
    assert not routing.agrees(experts, [2, 1, 1, 0])


def test_overlap_and_moved_weight() -> None:
    one = (torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    other = (torch.tensor([[0, 2], [1, 0]]), torch.tensor([[0.7, 0.3], [0.5, 0.5]]))
    both, moved = routing.difference(one, other, 4)
    assert both.tolist() == [0.5, 1.0]
    assert torch.allclose(moved, torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_an_answer_is_cut_by_text() -> None:
    whole = torch.arange(8.0).view(4, 2)
    assert [part.tolist() for part in routing.by_text(whole, 2)] == [whole[:2].tolist(), whole[2:].tolist()]
    both = routing.by_text((whole.long(), whole), 2)
    assert both[1][0].tolist() == whole[2:].long().tolist() and len(both) == 2
