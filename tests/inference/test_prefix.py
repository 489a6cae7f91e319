"""The loop computes what comes before the first site once, and never returns what was written into since."""

import pytest
import torch
from torch import nn

import dropkit as dk


class Net(nn.Module):
    """A trunk, a site, and a body that uses them in a particular way."""

    def __init__(self, body):
        super().__init__()
        self.trunk, self.inner, self.drop = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 4), nn.Dropout(0.5)
        self.wrap, self.body = nn.Sequential(self.inner), body

    def forward(self, x):
        return self.body(self, x)


def plain(net, x):
    return net.drop(net.trunk(x))


def written_after(net, x):
    y = net.trunk(x)
    y += net.drop(y)
    return y


def written_before(net, x):
    y = net.trunk(x)
    y *= 2
    return net.drop(y) + y


def through_a_view(net, x):
    y = net.trunk(x)
    y[0].zero_()
    return net.drop(net.inner(y)) + y


def shared(net, x):
    """One module inside a container, outside, and behind the site."""
    return net.inner(net.drop(net.inner(net.wrap(net.trunk(x)))))


def twice(net, x):
    return net.trunk(net.drop(net.trunk(x)))


def expected(net, x, passes):
    """The passes one by one, each computed from the beginning."""
    return torch.cat([dk.mc_predict(net, x, [index], samples=True, method="loop").samples for index in range(passes)])


@pytest.mark.parametrize("body", [plain, written_after, written_before, through_a_view, shared, twice])
def test_the_loop_gives_what_single_passes_give(body):
    torch.manual_seed(0)
    net, x = Net(body), torch.randn(3, 4)
    found = dk.mc_predict(net, x, 5, samples=True, method="loop").samples
    assert torch.equal(found, expected(net, x, 5))


@pytest.mark.parametrize(("body", "trunks"), [(plain, 1), (shared, 1), (twice, 1 + 5), (written_after, 5)])
def test_the_trunk_runs_once_where_it_can(body, trunks):
    counted = []
    net = Net(body)
    net.trunk[0].register_forward_hook(lambda *_: counted.append(1))
    net.drop.register_forward_hook(lambda *_: counted.append(0))
    dk.mc_predict(net, torch.ones(3, 4), 5, method="loop")
    assert counted.count(0) >= 5
    probing = 2  # the model is run in training mode to find functional calls, and other randomness; there is none
    per_forward = 2 if body is twice else 1
    assert counted.count(1) - probing * per_forward == trunks


def test_nothing_is_kept_after_something_was_drawn_from_torch():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    model = nn.Sequential(Noise(), nn.Dropout(0.5))
    found = dk.mc_predict(model, torch.ones(2, 50), 3, samples=True)
    assert found.method == "loop"
    noise = [sample[sample != 0] for sample in found.samples]
    assert len(torch.cat(noise).unique()) == sum(map(len, noise))


def test_no_more_is_kept_than_memory_allows():
    counted = []
    net = Net(plain)
    net.trunk[0].register_forward_hook(lambda *_: counted.append(1))
    dk.mc_predict(net, torch.ones(3, 4), 5, method="loop", memory=3 * 4 * 4 - 1)
    assert len(counted) == 2 + 5  # once to find functional calls, once to find other randomness
