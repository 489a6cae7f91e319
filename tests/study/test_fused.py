"""Runs trained as one batch are those trained one by one, to float tolerance."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.streams import keyed_pass
from dropkit.study.fused import FusedSession, train_fused
from dropkit.study.fused_lanes import Lanes
from dropkit.study.fused_stack import stack_of
from dropkit.study.prepare import prepare
from dropkit.study.session import Session
from dropkit.study.training import train


def perceptron():
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 24), nn.Tanh(),
                         dk.nn.GaussianDropout(0.2), nn.Linear(24, 10))


def convolutions():
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.2),
                         nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(72, 10))


class Transformer(nn.Module):
    """One encoder layer over the rows of an image, its attention with dropout; positions are a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.inputs, self.head = nn.Linear(8, 16), nn.Linear(16, 10)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
        self.register_buffer("positions", torch.randn(8, 16))

    def forward(self, x):
        return self.head(self.layer(self.inputs(x.unflatten(1, (8, 8))) + self.positions).mean(1))


class Functional(nn.Module):
    """Takes its rate as an argument."""

    def __init__(self, p=0.4):
        super().__init__()
        self.p, self.first, self.last = p, nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.last(dk.functional.dropout(self.first(x).relu(), self.p, self.training))


class Regressor(nn.Sequential):
    """Returns one number an example, without a dimension for it."""

    def forward(self, x):
        return super().forward(x).squeeze(1)


def regressor():
    return Regressor(nn.Linear(10, 16), nn.Dropout(0.1, inplace=True), nn.ReLU(), nn.Linear(16, 1))


def same(one, other, rtol=1e-4):
    """Whether two trees of numbers agree."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], rtol) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b, rtol) for a, b in zip(one, other, strict=True))
    return one == other or one == pytest.approx(other, rel=rtol, abs=1e-6)


@pytest.mark.parametrize(("model", "fields"), [
    (perceptron, {}), (convolutions, {}), (Transformer, {}), (perceptron, {"optimizer": "adamw", "weight_decay": 0.01}),
    (perceptron, {"optimizer": "sgd", "lr": 0.05}), (perceptron, {"optimizer": "rmsprop"}),
    (regressor, {"data": "diabetes"})], ids=["mlp", "conv", "transformer", "adamw", "sgd", "rmsprop", "regression"])
def test_ten_steps_agree(model, fields):
    ready = prepare(dk.Experiment(**{"data": "digits", "model": model, "epochs": 1, "batch_size": 17, **fields}))
    runs = [(arm, seed) for seed in (3, 11) for arm in ready.arms]
    fused, single = FusedSession(ready, runs), [Session(ready, arm, seed) for arm, seed in runs]
    for session in single:
        session.model.train()
    n = len(single[0].part.x_train)
    orders = [torch.randperm(n, generator=session.order).split(17) for session in (single[0], single[3])]
    for step in range(10):
        loss, out, _ = fused.run_step([order[step] for order in orders])
        for lane, session in enumerate(single):
            rows = orders[lane // 3][step]
            expected = session.run_step(session.part.x_train[rows], session.part.y_train[rows])
            torch.testing.assert_close(loss[lane], expected[0], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(out[lane], expected[1], rtol=1e-3, atol=1e-4)


def test_whole_runs_have_the_same_fields():
    ready = prepare(dk.Experiment(data="iris", model=lambda: nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)), epochs=3, batch_size=16))
    runs, told = [(arm, seed) for seed in (0, 1) for arm in ready.arms], []
    fused = train_fused(ready, runs, lambda *event: told.append(event))
    for (arm, seed), found in zip(runs, fused, strict=True):
        expected = train(ready, arm, seed)
        assert (found.arm, found.seed, found.status) == (expected.arm, expected.seed, expected.status)
        assert found.test_metric == expected.test_metric
        assert same(found.history, expected.history)
        assert same([found.test_loss, found.nll, found.brier], [expected.test_loss, expected.nll, expected.brier])
        assert same(found.instruments, expected.instruments, rtol=1e-2)
    assert [event[:2] for event in told] == [(lane, epoch) for epoch in (1, 2, 3) for lane in range(6)]
    assert all(math.isfinite(loss) for _, _, loss in told)


def test_a_run_that_diverges_ends_and_the_others_go_on():
    """One of two seeds meets a value that no float holds."""
    ready = prepare(dk.Experiment(data="iris", model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
                                  epochs=3, batch_size=16))
    fused = FusedSession(ready, [(ready.arms[0], 0), (ready.arms[0], 1)])
    with torch.no_grad():
        fused.sessions[1].model[0].weight.fill_(math.inf)
    losses = {lane: loss for lane, (loss, _) in fused.run_epoch().items()}
    assert math.isfinite(losses[0])
    assert not math.isfinite(losses[1])
    fused.end(1)
    kept = fused.sessions[1].model[2].bias.clone()
    assert list(fused.run_epoch()) == [0]
    assert fused.sessions[1].model[2].bias.equal(kept) or kept.isnan().all()


def test_a_study_whose_runs_all_diverge_stops_early():
    ready = prepare(dk.Experiment(data="iris", model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
                                  epochs=50, batch_size=16, optimizer="sgd", lr=1e30))
    runs = [(arm, 0) for arm in ready.arms]
    for found, (arm, seed) in zip(train_fused(ready, runs), runs, strict=True):
        assert found.status == "diverged"
        assert len(found.history["train_loss"]) == len(train(ready, arm, seed).history["train_loss"])


def test_a_rate_of_zero_costs_other_sites_nothing():
    """A site at rate 0 in one lane multiplies by exactly 1 there."""
    ready = prepare(dk.Experiment(data="iris", model=lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), epochs=1))
    none, intended = ready.arms[0], ready.arms[2]
    fused, single = FusedSession(ready, [(none, 0), (intended, 0)]), Session(ready, none, 0)
    rows = torch.arange(16)
    x, y = single.part.x_train[rows], single.part.y_train[rows]
    loss, out, _ = fused.run_step([rows])
    expected = F.cross_entropy(single.model.eval()(x), y)
    torch.testing.assert_close(loss[0], expected.detach())
    assert not torch.allclose(out[0], out[1])


def test_the_same_group_repeats_to_the_bit():
    ready = prepare(dk.Experiment(data="iris", epochs=2, batch_size=16, model=lambda: nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))))
    runs = [(arm, 5) for arm in ready.arms]
    torch.manual_seed(1)
    first = train_fused(ready, runs)
    torch.manual_seed(2)
    assert train_fused(ready, runs) == first


def frozen(net):
    """The same network with its first layer as it is."""
    return net.requires_grad_(False).append(nn.Linear(2, 2))


rectifier = nn.ReLU()
PERCEPTRONS = [
    nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 5, bias=False), nn.GELU()), dk.nn.Dropout(0.5), nn.Linear(5, 2)),
    nn.Sequential(nn.Linear(4, 5), dk.nn.Dropout(0.3), nn.Identity(), dk.nn.Dropout(0.0), nn.Linear(5, 2)),
    nn.Sequential(nn.Linear(4, 5), rectifier, nn.Linear(5, 6), rectifier, dk.nn.Dropout(0.4), rectifier, nn.Linear(6, 2)),
    nn.Sequential(dk.nn.Dropout(0.2), nn.ReLU(), dk.nn.Dropout(0.5), dk.nn.Dropout(0.5), nn.Linear(4, 2)),
    nn.Sequential(nn.Linear(4, 5), nn.Tanh(), dk.nn.Dropout(0.3), nn.ELU(inplace=True), nn.Linear(5, 2)),
    frozen(nn.Sequential(nn.Linear(4, 2), nn.ReLU(), dk.nn.Dropout(0.3))),
    nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), dk.nn.Dropout(0.3), nn.Linear(5, 2), nn.Identity(), nn.Hardtanh()),
]


@pytest.mark.parametrize("net", PERCEPTRONS, ids=range(len(PERCEPTRONS)))
@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_the_short_way_of_perceptrons_is_that_of_vmap(net, name):
    """The chain without vmap and autograd, and vmap over the same networks: same masks, outputs, losses and gradients.

    In three steps, the second of a smaller batch, in which two units are no longer few, with what the layers keep from step to
    step.
    """
    models = [copy.deepcopy(net) for _ in range(3)]
    for model in models:
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
    next(layer for layer in models[0] if isinstance(layer, dk.nn.Dropout)).p = 0.0
    lanes, trained = Lanes(models), [weight.requires_grad for weight in models[0].parameters()]
    assert lanes._stack is not None
    for seed, count in ((5, 9), (6, 4), (7, 9)):
        seeds, x = torch.tensor([seed, seed + 1, seed + 2]), torch.randn(3, count, 4)
        y = torch.arange(3 * count).reshape(3, count) % 2 if name == "cross_entropy" else torch.randn(3, count, 2)
        before, found = x.clone(), []
        for short in (name, ""):
            loss, out = lanes.step(seeds, x, y, F.cross_entropy if name == "cross_entropy" else F.mse_loss, short)
            gradients = [weight.grad for weight in lanes.parameters.values()]
            assert [gradient is not None for gradient in gradients] == trained
            found.append([loss, out, *(gradient.clone() for gradient in gradients if gradient is not None)])
        assert torch.equal(x, before)
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)


def test_what_a_step_returned_stays_as_it_is():
    lanes, x, y = Lanes([nn.Sequential(nn.Linear(4, 2)) for _ in range(2)]), torch.randn(2, 3, 4), torch.zeros(2, 3).long()
    first = lanes.step(torch.tensor([1, 2]), x, y, F.cross_entropy, "cross_entropy")
    kept = [values.clone() for values in first]
    lanes.step(torch.tensor([1, 2]), x + 1, y, F.cross_entropy, "cross_entropy")
    assert all(map(torch.equal, first, kept))


def test_layers_that_share_weights_take_the_long_way():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    assert Lanes([net, copy.deepcopy(net)])._stack is None
    twice = nn.Linear(4, 4)
    assert Lanes([nn.Sequential(twice, nn.ReLU(), twice), nn.Sequential(twice, nn.ReLU(), twice)])._stack is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rates", [(0.3, 0.3, 0.3), (0.0, 0.25, 1.0)], ids=["alike", "of their own"])
def test_dropout_behind_a_rectifier_is_both_in_turn_to_the_bit(dtype, rates):
    """One layer for both draws the mask once; an identity between them keeps the chain from taking it."""
    x, y = torch.randn(3, 16, 33, dtype=dtype), torch.randn(3, 16, 33, dtype=dtype)
    found = []
    for between in ([], [nn.Identity()]):
        site, first = dk.nn.Dropout(0.3), nn.Linear(33, 33, bias=False, dtype=dtype)
        weight = nn.Parameter(torch.eye(33, dtype=dtype).repeat(3, 1, 1))
        with keyed_pass(torch.arange(3)):
            chain = stack_of(nn.Sequential(first, nn.ReLU(), *between, site), {"0.weight": weight}, {site: rates})
            losses, out = chain.step(x, y, lambda out, y: ((out * y).flatten(1).sum(1), y.clone()))
        found.append([losses, out, weight.grad])
    assert all(map(torch.equal, *found))


def test_rates_may_be_batched_twice():
    """Inside two vmaps no rate can be looked at, and zeros are dropped like others."""
    x, seeds = torch.ones(2, 3, 50), torch.arange(6).reshape(2, 3)
    rates = torch.tensor([[0.0, 0.5, 1.0], [0.3, 0.0, 0.9]], dtype=torch.float64)

    def one(row, seed, rate):
        with keyed_pass(seed):
            return dk.functional.dropout(row, rate)

    found = torch.vmap(torch.vmap(one))(x, seeds, rates)
    for place in ((0, 0), (0, 1), (0, 2), (1, 1)):
        assert found[place].equal(one(x[place], seeds[place], float(rates[place])))
