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


def test_the_formula_holds_in_full_precision_with_positions_and_padding():
    one, two = (3 * torch.randn(4, 5, 7, dtype=torch.float64) for _ in range(2))
    target = torch.randint(5, (4, 7))
    target[1, 3:] = -100
    expected = by_hand(one.mT.reshape(-1, 5), two.mT.reshape(-1, 5), target.view(-1), 3.0)
    assert torch.allclose(r_drop_loss(one, two, target, 3.0), expected, rtol=1e-12, atol=0.0)


def test_the_batch_s_size_does_not_weigh():
    # The published snippet sums the divergence over the batch, so that a doubled batch doubles it.
    one, two, target = (torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64),
                        torch.randint(4, (6,)))
    once = r_drop_loss(one, two, target, 2.0)
    twice = r_drop_loss(one.repeat(2, 1), two.repeat(2, 1), target.repeat(2), 2.0)
    assert torch.allclose(once, twice, rtol=1e-12, atol=0.0)


def test_padding_counts_in_no_term_and_has_no_gradient():
    # The published snippet masks the divergence with a mask that lacks the classes, and not its number of terms.
    one, two = (torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    target = torch.randint(4, (3, 6))
    target[:, 4:] = 9
    padded = r_drop_loss(one, two, target, 2.0, ignore_index=9)
    cut = r_drop_loss(one[..., :4], two[..., :4], target[:, :4], 2.0)
    assert torch.allclose(padded, cut, rtol=1e-12, atol=0.0)
    padded.backward()
    assert bool((one.grad[..., 4:] == 0).all())
    assert bool((two.grad[..., :4] != 0).all())


def test_both_divergences_count_half_each():
    one, two, target = (torch.randn(9, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64),
                        torch.randint(5, (9,)))
    a, b = one.log_softmax(1), two.log_softmax(1)
    divergence = (F.kl_div(a, b, reduction="batchmean", log_target=True)
                  + F.kl_div(b, a, reduction="batchmean", log_target=True)) / 2
    entropy = (F.cross_entropy(one, target) + F.cross_entropy(two, target)) / 2
    assert torch.allclose(r_drop_loss(one, two, target, 0.7), entropy + 0.7 * divergence, rtol=1e-12, atol=0.0)


def test_impossible_classes_cost_nothing_where_both_passes_exclude_them():
    one, two = (torch.randn(4, 5, dtype=torch.float64) for _ in range(2))
    shut = torch.tensor([0.0, 0.0, 0.0, 0.0, -torch.inf], dtype=torch.float64)
    leaf = one.clone().requires_grad_()
    target = torch.tensor([0, 1, 2, 3])
    loss = r_drop_loss(leaf + shut, two + shut, target, 2.0)
    assert torch.allclose(loss, r_drop_loss(one[:, :4], two[:, :4], target, 2.0), rtol=1e-12, atol=0.0)
    loss.backward()
    assert bool(leaf.grad.isfinite().all())
    assert bool((leaf.grad[:, 4] == 0).all())


def test_a_class_that_one_pass_excludes_costs_infinitely_much_unless_the_divergence_has_no_weight():
    one, two, target = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -torch.inf]]), torch.tensor([0])
    assert r_drop_loss(one, two, target, 1.0) == torch.inf
    assert torch.equal(r_drop_loss(one, two, target, 0.0), F.cross_entropy(one, target) / 2)


def test_equal_passes_have_the_right_second_derivatives():
    leaf = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    other, target = leaf.detach().clone(), torch.tensor([0, 2])
    assert torch.autograd.gradgradcheck(lambda x: r_drop_loss(x, other, target, 4.0), (leaf,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_computed_in_single(dtype):
    one, two, target = torch.randn(50, 9).to(dtype), torch.randn(50, 9).to(dtype), torch.randint(9, (50,))
    assert torch.equal(r_drop_loss(one, two, target), r_drop_loss(one.float(), two.float(), target))


def test_an_empty_batch_costs_nothing():
    empty = torch.empty(0, 3, requires_grad=True)
    loss = r_drop_loss(empty, empty, torch.empty(0, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0.0


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf"), "1", True, None])
def test_wrong_weights_are_refused(alpha):
    with pytest.raises(dk.InputError, match="alpha is a finite number"):
        r_drop_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]), alpha)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_logits_without_classes_are_refused(shape):
    with pytest.raises(dk.InputError, match="one shape"):
        r_drop_loss(torch.zeros(shape), torch.zeros(shape), torch.tensor(0))
