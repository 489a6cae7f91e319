"""Rules on placement, rate and scale: well-placed dropout is left alone, and what the small examples do not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.audit.audit import audit
from dropkit.audit.finding import Place
from dropkit.audit.observation import Observation, Op, Pass, SiteCall
from dropkit.audit.rule import Rule
from dropkit.audit.rules import dk302, rules
from dropkit.nn import DropPath


def _found(model: nn.Module, inputs: Any) -> list[str]:
    return [finding.rule for finding in audit(model, inputs, select=["DK2", "DK3", "DK4"]).findings]


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.attention = nn.MultiheadAttention(32, 2, dropout=0.1, batch_first=True)
        self.first, self.second, self.drop, self.path = nn.Linear(32, 64), nn.Linear(64, 32), nn.Dropout(0.1), DropPath(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.path(self.drop(self.attention(y, y, y, need_weights=False)[0]))
        out: Tensor = x + self.path(self.drop(self.second(F.gelu(self.first(self.norms[1](x))))))
        return out


class _GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position, self.drop = nn.Embedding(50, 32), nn.Embedding(20, 32), nn.Dropout(0.1)
        self.blocks, self.norm, self.head = nn.Sequential(_Block(), _Block()), nn.LayerNorm(32), nn.Linear(32, 50)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.drop(self.token(ids) + self.position(torch.arange(ids.shape[1])))
        out: Tensor = self.head(self.norm(self.blocks(x)))
        return out


class _Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.n = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(32)])
        self.c = nn.ModuleList([nn.Conv2d(width, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)])
        self.short = nn.Conv2d(width, 32, 1) if width != 32 else nn.Identity()
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c[0](F.relu(self.n[0](x)))
        out: Tensor = self.short(x) + self.c[1](self.drop(F.relu(self.n[1](y))))
        return out


def _wide_resnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), _Wide(16), _Wide(32), nn.BatchNorm2d(32), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10))


class _Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop, self.rnn = nn.Embedding(50, 32), nn.Dropout(0.3), nn.LSTM(32, 32, 2, dropout=0.3)
        self.last = nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(self.rnn(self.drop(self.embed(ids)))[0]))
        return out


class _Prenet(nn.Module):
    """A decoder whose output comes back through a prenet that drops."""

    def __init__(self) -> None:
        super().__init__()
        self.prenet, self.cell, self.last = nn.Linear(8, 32), nn.LSTMCell(32, 32), nn.Linear(32, 8)

    def forward(self, frame: Tensor) -> Tensor:
        state = torch.zeros(len(frame), 32), torch.zeros(len(frame), 32)
        for _ in range(3):
            state = self.cell(F.dropout(F.relu(self.prenet(frame)), 0.5, self.training), state)
            frame = self.last(state[0])
        return frame


def _vgg() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(392, 64),
                         nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))


WELL_PLACED: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "gpt": (_GPT, lambda: torch.randint(0, 50, (2, 7))), "wide resnet": (_wide_resnet, lambda: torch.randn(4, 3, 8, 8)),
    "tagger": (_Tagger, lambda: torch.randint(0, 50, (6, 3))), "prenet": (_Prenet, lambda: torch.randn(4, 8)),
    "vgg": (_vgg, lambda: torch.randn(4, 3, 16, 16)),
    "torch encoder": (lambda: nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), lambda: torch.randn(2, 5, 32))}


@pytest.mark.parametrize("name", WELL_PLACED)
def test_well_placed_dropout_is_left_alone(name: str) -> None:
    build, inputs = WELL_PLACED[name]
    assert _found(build(), inputs()) == []


def _observed(module: nn.Module, kind: str = "dropout", before: str = "linear", shape: tuple[int, ...] = (4, 8),
              inplace: bool = False) -> Observation:
    """A pass in training of one operation and one site, made by hand."""
    first = Op(0, before, "", Place(""), shape=shape)
    last = Op(1, kind, "0", Place("0", "net.py", 7), (first,), shape=shape, arguments={"inplace": inplace})
    first.users.append(last)
    site = last.site = SiteCall("0", kind, getattr(module, "p", 0.1), True, False, last)
    return Observation(module, {"0": module}, None, {"train": Pass("train", [first, last], [site])})


@pytest.mark.parametrize(("given", "subject"), [
    ({"module": nn.Dropout2d(0.1), "kind": "dropout2d", "shape": (4, 8, 9)}, "dimensions"),
    ({"module": nn.Dropout(0.1, inplace=True), "before": "sigmoid", "inplace": True}, "inplace")])
def test_arguments_that_do_not_fit(given: dict[str, Any], subject: str) -> None:
    assert [found.subject for found in dk302._check(_observed(**given))] == [subject]


@pytest.mark.filterwarnings("ignore:dropout option adds:UserWarning")
def test_one_recurrent_layer_drops_nothing_between_layers() -> None:
    assert _found(nn.LSTM(8, 16, dropout=0.3), torch.randn(5, 2, 8)) == ["DK302"]


PLACED = [rule for rule in rules() if rule.check is not None and rule.id[2] in "234" and rule.id != "DK301"]


@pytest.mark.parametrize("rule", PLACED, ids=lambda rule: rule.id)
def test_the_line_named_is_that_of_the_site(rule: Rule) -> None:
    scope: dict[str, Any] = {"__name__": "audited"}
    exec(compile(rule.bad, "audited.py", "exec"), scope)
    (found,) = audit(scope["build"](), scope["inputs"](), select=[rule.id]).findings
    line = rule.bad.splitlines()[(found.place.line or 0) - 1]
    expected = {"DK206": "self.after(", "DK302": "self.last(", "DK403": "self.layers("}.get(rule.id, "self.drop(")
    assert expected in line
