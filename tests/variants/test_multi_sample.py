import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.variants.multi_sample import MultiSampleDropout, multi_sample_dropout, multi_sample_loss


def head():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def features(n=5):
    return torch.randn(n, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def masked(x, samples, p=0.5):
    """The samples that the head gets under the same key."""
    with dk.keyed(1):
        return dk.functional.dropout(x.expand(samples, *x.shape), p)


@pytest.mark.parametrize("n", [None, 1, 5])
def test_outputs_are_those_of_one_sample_after_the_other(n):
    top, x = head(), features()[0] if n is None else features(n)
    with dk.keyed(1):
        outputs = multi_sample_dropout(x, top, samples=4)
    expected = torch.stack([top(sample) for sample in masked(x, 4)])
    assert outputs.shape == expected.shape == (4, *([] if n is None else [n]), 3)
    assert torch.allclose(outputs, expected, rtol=1e-12, atol=1e-14)
    assert len({tuple(row.flatten().tolist()) for row in outputs}) == 4


def test_the_head_is_called_once():
    seen = []
    multi_sample_dropout(features(), lambda v: seen.append(v.shape) or v, samples=4)
    assert seen == [(20, 10)]
    multi_sample_dropout(features(), lambda v: seen.append(v.shape) or v, samples=4, training=False)
    assert seen == [(20, 10), (5, 10)]


def test_losses_are_averaged_and_not_logits():
    # Many implementations average the logits. Cross entropy is convex: that gives a smaller loss, here strictly.
    module, x, target = MultiSampleDropout(head(), samples=8), features(), torch.tensor([0, 1, 2, 0, 1])
    with dk.keyed(1):
        outputs = module(x)
    losses = [F.cross_entropy(module.head(sample), target) for sample in masked(x, 8)]
    loss = module.loss(outputs, target, F.cross_entropy)
    assert torch.allclose(loss, sum(losses) / 8, rtol=1e-12, atol=0)
    assert bool(F.cross_entropy(outputs.mean(0), target) < loss * (1 - 1e-4))


def test_the_gradient_is_the_mean_of_the_samples_gradients():
    module, x, target = MultiSampleDropout(head(), samples=3), features().requires_grad_(), torch.tensor([0, 1, 2, 0, 1])
    with dk.keyed(1):
        loss = module.loss(module(x), target, F.cross_entropy)
    wanted = (x, *module.parameters())
    found = torch.autograd.grad(loss, wanted)
    single = [torch.autograd.grad(F.cross_entropy(module.head(sample), target), wanted, retain_graph=True)
              for sample in masked(x, 3)]
    for one, parts in zip(found, zip(*single, strict=True), strict=True):
        assert torch.allclose(one, sum(parts) / 3, rtol=1e-10, atol=1e-14)


def test_logits_can_be_averaged():
    module, x, target = MultiSampleDropout(head(), 0.3, 4, average="logits"), features(), torch.tensor([0, 1, 2, 0, 1])
    with dk.keyed(1):
        logits = module(x)
    with dk.keyed(1):
        assert torch.equal(logits, multi_sample_dropout(x, module.head, 0.3, 4).mean(0))
    assert torch.equal(module.loss(logits, target, F.cross_entropy), F.cross_entropy(logits, target))


@pytest.mark.parametrize("average", ["losses", "logits"])
def test_evaluation_is_the_head(average):
    module, x, target = MultiSampleDropout(head(), average=average).eval(), features(), torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(module(x), module.head(x))
    assert torch.equal(module.loss(module(x), target, F.cross_entropy), F.cross_entropy(module.head(x), target))


def test_rate_zero_keeps_the_samples_and_draws_nothing():
    module, x = MultiSampleDropout(head(), 0.0, samples=3), features()
    state = torch.get_rng_state()
    outputs = module(x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.allclose(outputs, module.head(x).expand(3, 5, 3), rtol=1e-12, atol=1e-14)


def test_rate_one_leaves_the_head_alone_with_zeros():
    module = MultiSampleDropout(head(), 1.0, samples=2)
    x = torch.full((5, 10), math.nan, dtype=torch.float64, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert torch.allclose(y, module.head(torch.zeros(5, 10, dtype=torch.float64)).expand(2, 5, 3))
    assert torch.equal(x.grad, torch.zeros(5, 10, dtype=torch.float64))


def test_the_expectation_through_a_linear_head_is_its_evaluation():
    # The bounded mean of K samples, one pass with very many: Hoeffding with a union over the outputs.
    linear, x, samples, p = nn.Linear(10, 3).double(), features(2), 20_000, 0.3
    torch.manual_seed(0)
    outputs = multi_sample_dropout(x, linear, p, samples)
    spread = (x[:, None] * linear.weight).abs().sum(-1) / (1 - p)  # from the smallest to the largest possible output
    bound = spread * math.sqrt(math.log(2 * spread.numel() / 1e-6) / (2 * samples))
    assert bool(((outputs.mean(0) - linear(x)).abs() < bound).all())


def test_batch_statistics_are_those_of_all_samples():
    module = MultiSampleDropout(nn.BatchNorm1d(10, momentum=1.0, dtype=torch.float64), samples=4)
    x = features()
    with dk.keyed(1):
        module(x)
    assert torch.allclose(module.head.running_mean, masked(x, 4).flatten(0, 1).mean(0))
    assert int(module.head.num_batches_tracked) == 1


def test_convolutional_heads():
    x = torch.randn(2, 4, 5, 5)
    assert multi_sample_dropout(x, nn.Conv2d(4, 3, 2), samples=6).shape == (6, 2, 3, 4, 4)
    assert multi_sample_dropout(x[:0], nn.Conv2d(4, 3, 2), samples=6).shape == (6, 0, 3, 4, 4)


def test_state_and_repr():
    module = MultiSampleDropout(nn.Linear(4, 3), samples=4, average="logits")
    assert list(module.state_dict()) == ["head.weight", "head.bias"]
    assert "p=0.5, samples=4, average='logits'" in repr(module)
    assert "samples" not in repr(MultiSampleDropout(nn.Linear(4, 3)))


def test_loss_of_any_kind():
    outputs, target = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.zeros(2, 1)
    assert torch.equal(multi_sample_loss(outputs, target, nn.MSELoss(reduction="none")), torch.tensor([[5.0], [10.0]]))
    for bad in (torch.tensor(1.0), torch.ones(0, 3)):
        with pytest.raises(dk.InputError, match="outputs have samples"):
            multi_sample_loss(bad, target, F.mse_loss)


@pytest.mark.parametrize("samples", [0, -1, 2.0, True, None])
def test_wrong_numbers_of_samples_are_refused(samples):
    for attempt in (lambda: MultiSampleDropout(nn.Linear(4, 3), samples=samples),
                    lambda: multi_sample_dropout(torch.ones(2, 4), nn.Identity(), samples=samples)):
        with pytest.raises(dk.InputError, match="samples is an integer of at least 1"):
            attempt()


def test_other_wrong_calls_are_refused():
    with pytest.raises(dk.InputError, match="average is"):
        MultiSampleDropout(nn.Linear(4, 3), average="loss")
    with pytest.raises(dk.InputError, match="floating-point data"):
        multi_sample_dropout(torch.ones(2, 4, dtype=torch.int64), nn.Identity())
    with pytest.raises(dk.InputError, match="features with dimensions"):
        multi_sample_dropout(torch.tensor(1.0), nn.Identity())
    with pytest.raises(dk.InputError, match=r"keeps the batch dimension; got \(10, 16\)"):
        multi_sample_dropout(torch.ones(2, 10), torch.t)
