"""Divergence of two distributions, held to scipy's in float64."""

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

from proofcard.evaluate import divergence


def test_numbers_are_scipys() -> None:
    torch.manual_seed(3)
    ours, theirs = (3 * torch.randn(50, 400) for _ in range(2))
    targets = torch.randint(0, 400, (50,))
    found = divergence.between(ours, theirs, targets)
    p, q = (softmax(logits.double().numpy(), axis=-1) for logits in (ours, theirs))
    np.testing.assert_allclose(found.kl.numpy(), entropy(p, q, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(found.js.numpy(), jensenshannon(p, q, axis=-1) ** 2, rtol=1e-5)
    own, other = (values[np.arange(50), targets.numpy()] for values in (p, q))
    np.testing.assert_allclose(found.reference_nll.numpy(), -np.log(own), rtol=1e-5)
    np.testing.assert_allclose(found.delta_p.numpy(), other - own, rtol=1e-3, atol=1e-8)
    assert found.same.tolist() == (p.argmax(axis=-1) == q.argmax(axis=-1)).astype(float).tolist()


def test_pieces_do_not_show(monkeypatch: object) -> None:
    torch.manual_seed(4)
    ours, theirs, targets = torch.randn(9, 30), torch.randn(9, 30), torch.randint(0, 30, (9,))
    whole = divergence.between(ours, theirs, targets).stacked()
    monkeypatch.setattr(divergence, "_ELEMENTS", 60)  # type: ignore[attr-defined]
    assert torch.equal(divergence.between(ours, theirs, targets).stacked(), whole)


def test_equal_logits_are_no_divergence_and_far_ones_are_finite() -> None:
    logits = torch.tensor([[0.0, 200.0, -200.0], [1.0, 2.0, 3.0]])
    targets = torch.tensor([1, 2])
    same = divergence.between(logits, logits, targets)
    assert same.kl.tolist() == [0.0, 0.0] and same.js.abs().max() < 1e-15
    far = divergence.between(logits, -logits, targets)
    assert torch.isfinite(far.stacked()).all() and float(far.kl[0]) == 400.0
    broken = torch.full((2, 3), float("nan"))
    assert torch.isnan(divergence.between(logits, broken, targets).kl).all()
