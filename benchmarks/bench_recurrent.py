"""Recurrent layers with dropout against torch's own without it, and against a loop over time as Keras has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dropkit.variants.recurrent_dropout_rnn import RecurrentDropoutGRU, RecurrentDropoutLSTM
from dropkit.variants.variational_rnn import VariationalGRU, VariationalLSTM, VariationalRNN
from dropkit.variants.weight_drop import WeightDrop
from dropkit.variants.zoneout_rnn import ZoneoutGRU, ZoneoutLSTM
from harness import Bar, Case, compare, write

P = 0.25
SHAPES = {"batch 32, 64 steps, 256 units": (64, 32, 256, 1, 1.5),
          "batch 20, 35 steps, 650 units, 2 layers": (35, 20, 650, 2, 1.3)}


class Loop(nn.LSTM):
    """An LSTM cell called step by step, with dropped states and inputs, as a framework without a fused layer does it."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        """Run all layers."""
        for w_ih, w_hh, b_ih, b_hh in self.all_weights:
            h = c = x.new_zeros(x.shape[1], self.hidden_size)
            into, back = (torch.ones_like(h).bernoulli_(1 - P).div_(1 - P) for _ in range(2))
            outputs = []
            for step in x.unbind():
                h, c = torch.lstm_cell(step * into, (h * back, c), w_ih, w_hh, b_ih, b_hh)
                outputs.append(h)
            x = torch.stack(outputs)
        return x, (h, c)


def training(module: nn.Module, x: Tensor, grad: Tensor) -> Callable[[], None]:
    """Return a forward and a backward pass in training, with gradients in parameters and data."""
    def step() -> None:
        x.grad = None
        module.zero_grad()
        module(x)[0].backward(grad)

    return step


def prepared(modules: dict[str, nn.Module], x: Tensor, units: int) -> dict[str, Callable[[], None]]:
    """Return every module's pass."""
    grad = torch.randn(*x.shape[:2], units)
    return {name: training(module, x, grad) for name, module in modules.items()}


def lstms(title: str, steps: int, batch: int, units: int, layers: int, bound: float) -> Case:
    """Time LSTMs; the variational one is held to torch's without dropout."""
    between = P if layers > 1 else 0.0
    modules = {
        "nn.LSTM": nn.LSTM(units, units, layers),
        "VariationalLSTM": VariationalLSTM(units, units, layers, dropout=between, input_p=P, recurrent_p=P),
        "untied": VariationalLSTM(units, units, layers, dropout=between, input_p=P, recurrent_p=P, tied=False),
        "no recurrent rate": VariationalLSTM(units, units, layers, dropout=between, input_p=P),
        "ZoneoutLSTM": ZoneoutLSTM(units, units, layers),
        "RecurrentDropoutLSTM": RecurrentDropoutLSTM(units, units, layers),
        "WeightDrop(nn.LSTM)": WeightDrop(nn.LSTM(units, units, layers)),
        "loop over steps": Loop(units, units, layers),
    }
    calls = prepared(modules, torch.randn(steps, batch, units, requires_grad=True), units)
    return compare(f"LSTM, {title}", calls, [Bar("VariationalLSTM", "nn.LSTM", bound),
                                             Bar("VariationalLSTM", "loop over steps", 1.0)], seconds=20.0)


def others(title: str, steps: int, batch: int, units: int, layers: int) -> list[Case]:
    """Time GRUs and plain layers."""
    between = P if layers > 1 else 0.0
    options = {"dropout": between, "input_p": P, "recurrent_p": P}
    x = torch.randn(steps, batch, units, requires_grad=True)
    gru = {"nn.GRU": nn.GRU(units, units, layers), "VariationalGRU": VariationalGRU(units, units, layers, **options),
           "ZoneoutGRU": ZoneoutGRU(units, units, layers), "RecurrentDropoutGRU": RecurrentDropoutGRU(units, units, layers)}
    rnn = {"nn.RNN": nn.RNN(units, units, layers), "VariationalRNN": VariationalRNN(units, units, layers, **options)}
    return [compare(f"GRU, {title}", prepared(gru, x, units), [Bar("VariationalGRU", "nn.GRU", 1.0)], seconds=8.0),
            compare(f"RNN, {title}", prepared(rnn, x, units), seconds=4.0)]


def small() -> Case:
    """Time a small LSTM, where calls count for more than arithmetic."""
    x = torch.randn(64, 8, 64, requires_grad=True)
    modules = {"nn.LSTM": nn.LSTM(64, 64), "VariationalLSTM": VariationalLSTM(64, 64, input_p=P, recurrent_p=P),
               "loop over steps": Loop(64, 64)}
    return compare("LSTM, batch 8, 64 steps, 64 units", prepared(modules, x, 64),
                   [Bar("VariationalLSTM", "nn.LSTM", 1.4), Bar("VariationalLSTM", "loop over steps", 1.0)])


def cases() -> list[Case]:
    """Run every case."""
    torch.manual_seed(0)
    found = []
    for title, (steps, batch, units, layers, bound) in SHAPES.items():
        found.append(lstms(title, steps, batch, units, layers, bound))
        found += others(title, steps, batch, units, layers)
    return [*found, small()]


if __name__ == "__main__":
    write("Recurrent layers", "recurrent", cases(),
          f"Forward and backward in training, float32, one thread. p = {P} for inputs, states and what goes between layers; "
          "torch's layers have no dropout here. The loop over steps calls torch's cell with masked inputs and states.")
