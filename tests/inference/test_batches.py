"""Batches do not matter: masks belong to the examples, whatever is run at once."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import dropkit as dk
from dropkit.inference.batches import rows_in

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}
N = 11


class Calls(nn.Module):
    """Functional dropout, and attention with dropout."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        x = F.dropout(self.project(x), 0.3, self.training)
        heads = x.view(len(x), 2, 2, 2)
        p = 0.4 if self.training else 0.0
        return F.scaled_dot_product_attention(heads, heads, heads, dropout_p=p).flatten(1)


class Flat(nn.Module):
    """Positions of all examples in one dimension, as many models of language have them."""

    def __init__(self):
        super().__init__()
        self.drop, self.head = nn.Dropout(0.4), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.drop(x.view(-1, 2))).view(len(x), -1)


def conv(site):
    return nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 1), nn.ReLU(), site, nn.Flatten(), nn.Linear(16, 3))


NETS = {
    "dropout": lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)),
    "in place": lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3, inplace=True), nn.Linear(16, 3)),
    "channels": lambda: conv(nn.Dropout2d(0.4)),
    "alpha": lambda: conv(nn.FeatureAlphaDropout(0.4)),
    "block": lambda: conv(dk.nn.DropBlock2d(0.3, block_size=1)),
    "path": lambda: conv(dk.nn.DropPath(0.4)),
    "gaussian": lambda: conv(dk.nn.GaussianDropout(0.4)),
    "locked": lambda: nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Linear(2, 3), dk.nn.LockedDropout(0.4, batch_first=True),
                                    nn.Flatten()),
    "calls": Calls,
    "flat": Flat,
    "attention": lambda: nn.Sequential(nn.Unflatten(1, (4, 2)), nn.TransformerEncoderLayer(2, 1, 4, 0.3, batch_first=True),
                                       nn.Flatten()),
    "weights of each example": lambda: dk.nn.DropConnect(nn.Linear(8, 8), 0.4),
    "weights": lambda: dk.nn.DropConnect(nn.Linear(8, 8), 0.4, per="batch"),
}


def predicted(model, data, **more):
    return dk.mc_predict(model, data, 4, samples=True, **more).samples


@pytest.mark.parametrize("method", ["vmap", "loop", "auto"])
@pytest.mark.parametrize("name", NETS)
def test_samples_do_not_depend_on_the_batches(name, method):
    torch.manual_seed(0)
    model, x = NETS[name]().eval(), torch.randn(N, 8)
    whole = predicted(model, x)
    assert (whole[0] != whole[1]).any()
    for size in (1, 4, 7, N):
        if size == 1 and method == "auto":
            continue  # eleven batches more take time and say nothing new
        found = predicted(model, DataLoader(x, batch_size=size), method=method, memory=1 << 12)
        torch.testing.assert_close(found, whole, **TOLERANCE)


def test_examples_of_different_batches_have_masks_of_their_own():
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    found = predicted(model, DataLoader(torch.ones(8, 64), batch_size=2))
    for first in range(8):
        for second in range(first):
            assert (found[:, first] != found[:, second]).any()


def test_states_of_a_recurrent_layer_are_fresh_in_each_batch_and_can_be_made_again():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(2, 6, num_layers=2, dropout=0.5, batch_first=True)

        def forward(self, x):
            return self.lstm(x.view(len(x), 4, 2))[0][:, -1]

    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(1, 8).expand(6, 8)
    loader = DataLoader(x, batch_size=2)
    first = predicted(model, loader)
    assert torch.equal(first, predicted(model, loader))
    assert (first[:, 0:2] != first[:, 2:4]).any()
    assert (first[:, 2:4] != first[:, 4:6]).any()


def test_inputs_whose_size_is_not_known_have_masks_by_batch():
    class Graph(nn.Module):
        def forward(self, x, edges):
            return F.dropout(x, 0.5, self.training).sum(1, keepdim=True) + edges.sum()

    model, batch = Graph(), {"x": torch.ones(4, 30), "edges": torch.zeros(2, 7)}
    found = predicted(model, iter([batch, batch]))
    assert (found[:, :4] != found[:, 4:]).any()
    with dk.keyed(0, step=1, pass_index=2):
        again = dk.swap(Graph(), inputs=batch).train()(**batch)
    torch.testing.assert_close(found[2, 4:], again)


@pytest.mark.parametrize(("batch", "rows"), [
    (torch.ones(3, 2), 3), ({"a": torch.ones(3), "b": 2, "c": None}, 3), ([torch.ones(3), torch.ones(3, 4)], 3),
    (torch.ones(()), None), (torch.ones(0, 2), None), ((torch.ones(3), torch.ones(2)), None), ((torch.ones(3), [1]), None),
    ((), None), ("text", None),
])
def test_rows_are_told_where_they_can_be(batch, rows):
    assert rows_in(batch) == rows
