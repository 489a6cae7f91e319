"""DK104: a graph with the mode of its making."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from torch import nn

from dropkit.audit.baked import Fixed, called_from, fixed_calls, graphs, traced_at
from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterator[Finding]:
    parts = graphs(seen.modules)
    if not parts:
        return
    calls = {mode: _read(seen.model, parts, mode) for mode in (False, True)}  # train() may switch to another graph
    wrong = {path: part for path, part in parts.items() if any(drops for _, drops in calls[False][path])
             or any(not drops for _, drops in calls[True][path])}
    lines = called_from(seen, wrong) if wrong else {}
    for path, part in wrong.items():
        place = traced_at(part, path) or lines.get(path, Place(path))
        rates = [rate for rate, drops in calls[False][path] if drops]
        if rates:
            yield RULE.finding(f"{path or '(model)'} is a graph in which {_sites(rates)} whatever the mode is: it was made in "
                               f"training", place, evidence={"calls": len(rates), "p": max(rates)})
        else:
            idle = [rate for rate, drops in calls[True][path] if not drops]
            yield RULE.finding(f"{path or '(model)'} is a graph whose dropout is off in training: it was made in evaluation",
                               place, "Make it in training if it is to be trained", severity="note", subject="off",
                               evidence={"calls": len(idle), "p": max(idle)})


def _read(model: nn.Module, parts: dict[str, nn.Module], training: bool) -> dict[str, list[Fixed]]:
    with suppress(NotImplementedError):  # an exported program has one mode
        model.train(training)
    return {path: fixed_calls(part) for path, part in parts.items()}


def _sites(rates: list[float]) -> str:
    return f"a dropout at p={rates[0]:g} acts" if len(rates) == 1 else f"{len(rates)} dropouts act"


RULE = Rule(
    id="DK104",
    title="A traced or exported graph holds the mode of its making",
    why="Tracing writes down what ran. `training=self.training` becomes a constant in a `torch.fx`, `torch.export` or "
        "`torch.jit.trace` graph, and `model.eval()` no longer reaches it: a graph that was made in training drops in "
        "evaluation, too, and one that was made in evaluation never drops.",
    fix="Call `eval()` before tracing or exporting what is to be deployed. To go on training, trace with `nn.Dropout` modules, "
        "which `torch.fx` keeps as they are, or use `torch.jit.script`, which asks for the mode.",
    severity="error",
    confidence="high",
    bad="""\
import torch
from torch import nn
from torch.nn import functional as F


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 64)

    def forward(self, x):
        return F.dropout(torch.relu(self.inner(x)), 0.3, self.training)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.head = torch.fx.symbolic_trace(Part()), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.part(x))


def build():
    return Net()


def inputs():
    return torch.ones(8, 16)
""",
    good="""\
import torch
from torch import nn


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.drop = nn.Linear(16, 64), nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(torch.relu(self.inner(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.head = torch.fx.symbolic_trace(Part()), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.part(x))


def build():
    return Net()


def inputs():
    return torch.ones(8, 16)
""",
    references=("github.com/pytorch/pytorch, issue 68190", "github.com/pytorch/pytorch, issue 71929"),
    check=_check)
