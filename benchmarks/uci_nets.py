"""Many small regression networks with dropout, trained at once as one batched model.

The protocol is that of Gal and Ghahramani ("Dropout as a Bayesian approximation: representing model uncertainty in deep
learning", ICML 2016): one hidden layer of ReLU units, dropout before every layer, the input included, mean squared error on
standardised targets, Adam, and an L2 penalty on the weights that follows from the prior's length scale l and the noise's
precision tau: ``l^2 (1 - p) / (2 N tau)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import dropkit as dk


@dataclass(frozen=True)
class Splits:
    """The examples of S splits, standardised by the statistics of each training part.

    Args:
        x: (S, N, D), for training.
        y: (S, N, 1), for training.
        x_test: (S, M, D).
        y_test: (S, M), in the target's own unit.
        mean: (S, 1), of the training targets.
        scale: (S, 1), their standard deviation.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    mean: Tensor
    scale: Tensor


class Nets(nn.Module):
    """S networks of one hidden layer; the input's first dimension tells them apart.

    Args:
        count: S, how many.
        features: of an example.
        hidden: ReLU units.
        p: rate of dropout, before both layers.
    """

    def __init__(self, count: int, features: int, hidden: int, p: float) -> None:
        super().__init__()
        self.drop_input, self.drop_hidden = dk.nn.Dropout(p), dk.nn.Dropout(p)
        self.w1, self.b1 = nn.Parameter(_glorot(count, features, hidden)), nn.Parameter(torch.zeros(count, 1, hidden))
        self.w2, self.b2 = nn.Parameter(_glorot(count, hidden, 1)), nn.Parameter(torch.zeros(count, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(S, B, D) -> (S, B, 1)."""
        hidden = torch.baddbmm(self.b1, self.drop_input(x), self.w1).relu()
        return torch.baddbmm(self.b2, self.drop_hidden(hidden), self.w2)

    def alone(self, index: int) -> nn.Sequential:
        """Return one of the networks as ordinary modules."""
        features, hidden = self.w1.shape[1:]
        net = nn.Sequential(nn.Dropout(self.drop_input.p), nn.Linear(features, hidden), nn.ReLU(),
                            nn.Dropout(self.drop_hidden.p), nn.Linear(hidden, 1))
        with torch.no_grad():
            for layer, weight, bias in ((net[1], self.w1, self.b1), (net[4], self.w2, self.b2)):
                layer.weight.copy_(weight[index].T)
                layer.bias.copy_(bias[index, 0])
        return net


def train(nets: Nets, x: Tensor, y: Tensor, *, epochs: int, penalty: float, batch: int = 32, rate: float = 1e-3,
          seed: int = 0) -> None:
    """Fit all networks, each on batches of its own order; the last batch of an epoch may be short.

    Args:
        nets: the networks.
        x: (S, N, D).
        y: (S, N, 1).
        epochs: over the data.
        penalty: factor of the squared weights in the loss of each network.
        batch: examples a step and network.
        rate: Adam's.
        seed: of the orders; masks follow torch's.
    """
    count, examples = x.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(nets.parameters(), lr=rate, fused=True)
    rows = torch.arange(count)[:, None]
    for _ in range(epochs):
        order = torch.rand(count, examples, generator=generator).argsort(1)
        shuffled_x, shuffled_y = x[rows, order], y[rows, order]
        for begin in range(0, examples, batch):
            given, wanted = shuffled_x[:, begin:begin + batch], shuffled_y[:, begin:begin + batch]
            errors = (nets(given) - wanted).square().sum() / given.shape[1]  # each network's mean, summed over networks
            loss = errors + penalty * (nets.w1.square().sum() + nets.w2.square().sum())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


def read(folder: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return training and test inputs and targets of every published split of a set, as the files hold them."""
    table = np.loadtxt(folder / "data.txt")

    def numbers(name: str) -> np.ndarray:
        return np.loadtxt(folder / f"index_{name}.txt", ndmin=1).astype(int)

    features, target, found = numbers("features"), numbers("target"), []
    while (folder / f"index_train_{len(found)}.txt").exists():
        parts = [numbers(f"{part}_{len(found)}") for part in ("train", "test")]
        found.append((table[parts[0]][:, features], table[parts[0]][:, target[0]],
                      table[parts[1]][:, features], table[parts[1]][:, target[0]]))
    return found


def standardised(splits: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> Splits:
    """Stack splits of equal size, each standardised by its training part; a constant feature is only centred."""
    x, y, x_test, y_test = (np.stack(part) for part in zip(*splits, strict=True))
    spread = x.std(1, keepdims=True)
    spread[spread == 0] = 1.0
    centre, mean, scale = x.mean(1, keepdims=True), y.mean(1, keepdims=True), y.std(1, keepdims=True)
    arrays = ((x - centre) / spread, ((y - mean) / scale)[..., None], (x_test - centre) / spread, y_test, mean, scale)
    return Splits(*[torch.from_numpy(array).float() for array in arrays])


def _glorot(count: int, inputs: int, outputs: int) -> Tensor:
    bound = (6.0 / (inputs + outputs)) ** 0.5
    return torch.empty(count, inputs, outputs).uniform_(-bound, bound)
