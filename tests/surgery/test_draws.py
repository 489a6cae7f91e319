"""Operators that draw are told, in forward and backward passes; those that could and do not are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.surgery.draws import Draws

X = torch.ones(2, 4, 8)


class _DrawsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad + torch.rand_like(grad)


LSTM = nn.LSTM(8, 8, 2, dropout=0.5)
QUIET: dict[str, Callable[[], Any]] = {
    "dropout": lambda: F.dropout(X, 0.5, training=False), "no rate": lambda: torch.native_dropout(X, 0.0, True),
    "attention": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.0), "recurrent": lambda: LSTM.eval()(X)}
LOUD: dict[str, Callable[[], Any]] = {
    "dropout": lambda: F.dropout(X, 0.5), "noise": lambda: torch.randn_like(X),
    "attention": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.5), "recurrent": lambda: LSTM.train()(X),
    "backward": lambda: _DrawsBackward.apply(X.clone().requires_grad_()).sum().backward()}  # type: ignore[no-untyped-call]


def _told(call: Callable[[], Any]) -> list[Any]:
    told: list[Any] = []
    with Draws(lambda operator, result: told.append(operator)):
        call()
    return told


@pytest.mark.parametrize("name", QUIET)
def test_what_draws_nothing_is_not_told(name: str) -> None:
    assert not _told(QUIET[name])


@pytest.mark.parametrize("name", LOUD)
def test_what_draws_is_told(name: str) -> None:
    assert _told(LOUD[name])
