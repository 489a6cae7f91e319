import warnings

import pytest
import torch
from torch import nn

import dropkit as dk


def idle():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns when it is built
        return nn.LSTM(2, 2, dropout=0.5)


def test_a_rate_that_never_drops_is_reported_by_name():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(idle()))
    with pytest.warns(UserWarning, match=r"one layer never drops: '1\.0' has a rate"):
        dk.swap(model)
    assert type(model[0]) is dk.nn.Dropout


def test_the_warning_as_an_error_changes_nothing():
    model = nn.Sequential(nn.Dropout(), idle())
    with pytest.raises(UserWarning, match="never drops"):
        dk.swap(model)
    assert type(model[0]) is nn.Dropout


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_others_are_left_in_silence(kind):
    model = nn.Sequential(kind(2, 2), kind(2, 2, 2, dropout=0.5))
    assert [type(part) for part in dk.swap(model)] == [kind, kind]
    assert torch.equal(torch.tensor([site.p for site in dk.sites(model)]), torch.tensor([0.5]))
