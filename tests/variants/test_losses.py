import pytest
import torch
import torch.nn.functional as F

import dropkit as dk
from dropkit.variants.losses import r_drop_loss


def by_hand(one, two, target, alpha):
    """The formula of the paper in float64, an example at a time."""
    total, count = 0.0, 0
    for a, b, t in zip(one.double(), two.double(), target, strict=True):
        if t == -100:
            continue
        p, q = a.softmax(0), b.softmax(0)
        divergence = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
        total += (-p[t].log() - q[t].log()) / 2 + alpha * divergence / 2
        count += 1
    return total / count


def test_the_formula_of_the_paper():
    one, two, target = torch.randn(20, 5), torch.randn(20, 5), torch.randint(5, (20,))
    target[3] = -100
    for alpha in (0.0, 1.0, 5.0):
        assert torch.allclose(r_drop_loss(one, two, target, alpha).double(), by_hand(one, two, target, alpha), atol=1e-5)


def test_equal_passes_cost_the_cross_entropy():
    z, target = torch.randn(6, 4, 3), torch.randint(4, (6, 3))
    assert torch.allclose(r_drop_loss(z, z, target, 9.0), F.cross_entropy(z, target))


def test_it_is_symmetric_and_differentiable():
    one, two = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    target = torch.tensor([0, 1, 2, -100])
    assert torch.allclose(r_drop_loss(one, two, target), r_drop_loss(two, one, target))
    assert torch.autograd.gradcheck(lambda a, b: r_drop_loss(a, b, target, 2.0), (one, two))


def test_extreme_logits_and_nothing_to_count_stay_finite():
    one = torch.tensor([[300.0, -300.0]], dtype=torch.float16, requires_grad=True)
    loss = r_drop_loss(one, -one, torch.tensor([0]))
    assert bool(loss.isfinite())
    assert float(r_drop_loss(one, one, torch.tensor([-100])).detach()) == 0.0


def test_wrong_arguments_are_refused():
    z = torch.zeros(2, 3)
    with pytest.raises(dk.InputError, match="one shape"):
        r_drop_loss(z, torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(dk.InputError, match="target"):
        r_drop_loss(z, z, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(dk.InputError, match="alpha"):
        r_drop_loss(z, z, torch.tensor([0, 1]), -1.0)
