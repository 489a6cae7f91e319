"""Streams are named by paths: models that share a site share its random numbers."""

import torch
from torch import nn

import dropkit as dk


class Net(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Dropout(0.5), nn.Identity()) for _ in range(blocks))

    def forward(self, x):
        return [block(x) for block in self.blocks]


def test_models_that_share_sites_draw_common_random_numbers():
    small, large, x = dk.swap(Net(2)), dk.swap(Net(4)), torch.ones(1000)
    with dk.keyed(5, step=9):
        few = small(x)
    with dk.keyed(5, step=9):
        many = large(x)
    assert all(torch.equal(one, other) for one, other in zip(few, many[:2], strict=True))
    assert not torch.equal(many[0], many[2])


def test_a_site_switched_off_leaves_the_others_alone():
    model, x = dk.swap(Net(3)), torch.ones(1000)
    with dk.keyed(5):
        before = model(x)
    dk.set_rate(model, {"blocks.1.0": 0.0})
    with dk.keyed(5):
        after = model(x)
    assert torch.equal(before[0], after[0])
    assert torch.equal(after[1], x)
    assert torch.equal(before[2], after[2])
