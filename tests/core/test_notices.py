"""Warnings name the user's line."""

import pytest
import torch
from torch import nn

import dropkit as dk


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


def idle():
    module = nn.GRU(2, 2, num_layers=2, dropout=0.5)
    module.num_layers = 1  # torch itself warns where it is made so
    return module


@pytest.mark.parametrize(("call", "said"), [
    (lambda: dk.mc_predict(nn.Sequential(Noisy(), nn.Dropout(0.5)), torch.ones(3, 2), 5), "does not know"),
    (lambda: dk.swap(idle()), "never drops")], ids=["mc_predict", "swap"])
def test_a_warning_points_at_the_line_that_called(call, said):
    with pytest.warns(UserWarning, match=said) as caught:
        call()
    assert [record.filename for record in caught] == [__file__]
