"""The functions that drop: how their calls are read, and how dropkit answers them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit import functional
from dropkit.catalog import CATALOG
from dropkit.core.streams import skip_site
from dropkit.variants.alpha import alpha_dropout, feature_alpha_dropout
from dropkit.variants.attention import scaled_dot_product_attention
from dropkit.variants.channel import dropout1d, dropout2d, dropout3d
from dropkit.variants.dropout import dropout

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How one function drops.

    Args:
        name: the function's name.
        kind: a catalog name.
        parameters: the names of its parameters, in order.
        rate: the parameter that holds the rate; None where it has none.
        training: the parameter that tells whether to drop; None where the rate alone does.
        defaults: the rate and the training flag of a call that passes none.
        always: whether a call that passes no rate drops.
        plain: the function without interception.
        drop: dropkit's answer to a call, from its arguments, a rate and a stream.
        ours: whether it is dropkit's own.
    """

    name: str
    kind: str
    parameters: tuple[str, ...]
    rate: str | None
    training: str | None
    defaults: tuple[float, bool]
    always: bool
    plain: Callable[..., Any]
    drop: Callable[[Arguments, Any, str | None], Any]
    ours: bool = False


class Call:
    """A call of a function that drops.

    Args:
        rule: the function's.
        args: the positional arguments.
        kwargs: the others.
    """

    def __init__(self, rule: Rule, args: tuple[Any, ...], kwargs: Arguments) -> None:
        self.rule = rule
        self.arguments = {**dict(zip(rule.parameters, args, strict=False)), **kwargs}
        self.p = self.arguments.get(rule.rate, rule.defaults[0]) if rule.rate is not None else math.nan
        flag = self.arguments.get(rule.training) if rule.training is not None else None
        self.training: bool = rule.defaults[1] if flag is None else flag

    @property
    def is_site(self) -> bool:
        """Whether it is a place where dropout acts: attention without a rate is none."""
        return self.rule.always or self.rule.rate in self.arguments

    def as_written(self) -> Any:
        """Run the function that was called."""
        return self.rule.plain(**self.arguments)

    def without_dropout(self) -> Any:
        """Run the function as it runs in evaluation."""
        off: Arguments = {self.rule.training: False} if self.rule.training else {str(self.rule.rate): 0.0}
        return self.rule.plain(**{**self.arguments, **off})

    def dropped(self, p: float | Tensor, stream: str | None) -> Any:
        """Answer the call with dropkit's masks; where it does nothing, with the function itself.

        Args:
            p: the rate in place of the call's own.
            stream: the site's name under ``dk.keyed``, unless the call has one.
        """
        if self.rule.ours:
            return self.rule.drop(self.arguments, p, stream)
        if not self.training:
            return self.as_written()
        if not isinstance(p, Tensor) and p == 0:
            skip_site(stream)
            return self.without_dropout()
        return self.rule.drop(self.arguments, p, stream)


def read(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Arguments) -> Call | None:
    """The call as one that drops, or None.

    Args:
        function: any function.
        args: its positional arguments.
        kwargs: the others.

    Example:
        >>> call = read(F.dropout, (torch.ones(2), 0.1), {})
        >>> call.rule.kind, call.p, call.training
        ('dropout', 0.1, True)
        >>> read(torch.relu, (torch.ones(2),), {}) is None
        True
    """
    rule = RULES.get(function)
    if rule is None:
        return None
    call = Call(rule, args, kwargs)
    return call if call.is_site else None


def _torch(kind: str, answer: Callable[..., Any], plain: Callable[..., Any], *, inplace: bool | None = None,
           training: bool | None = True) -> Rule:
    """A rule for the functions (input, p, training, inplace) of ``torch.nn.functional`` and (input, p, train) of ``torch``.

    Those of ``torch`` have no defaults and write in place by another name.
    """
    def drop(arguments: Arguments, p: Any, stream: str | None) -> Any:
        where = arguments.get("inplace", False) if inplace is None else inplace
        return answer(arguments["input"], p, True, where, stream=stream)

    flag, more = ("training", ("inplace",)) if inplace is None else ("train", ())
    return Rule(plain.__name__, kind, ("input", "p", flag, *more), "p", flag, (0.5, bool(training)), True, plain, drop)


def _features(x: Tensor, p: Any, training: bool, inplace: bool, *, stream: str | None) -> Tensor:
    return dropout(x, p, training, inplace, share_dims=tuple(range(2, x.dim())), stream=stream)


def _with_mask(x: Tensor, p: Any, training: bool, inplace: bool, *, stream: str | None) -> tuple[Tensor, Tensor]:
    factors = dropout(torch.ones_like(x), p, training, stream=stream)
    return x * factors, factors != 0


def _attention(arguments: Arguments, p: Any, stream: str | None) -> Tensor:
    same = {name: value for name, value in arguments.items() if name != "dropout_p"}
    return scaled_dot_product_attention(p=p, stream=stream, **same)


def _own(name: str, kind: str, rate: str | None, always: bool = True) -> tuple[Callable[..., Any], Rule]:
    """The public function of dropkit's façade and its rule."""
    public = getattr(functional, name)
    plain: Any = public.__wrapped__
    code = plain.__code__  # inspect.signature takes longer than the rest of the import
    parameters = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    defaults = dict(zip(parameters[:code.co_argcount][::-1], (plain.__defaults__ or ())[::-1], strict=False))

    def drop(arguments: Arguments, p: Any, stream: str | None) -> Any:
        changed = dict(arguments)
        if rate is not None:
            changed[rate] = p
        if "stream" in parameters and changed.get("stream") is None:
            changed["stream"] = stream
        return plain(**changed)

    default = math.nan if rate is None else defaults[rate]
    return public, Rule(name, kind, parameters, rate, "training", (default, True), always, plain, drop, ours=True)


_ATTENTION = "scaled_dot_product_attention"
RULES: dict[Callable[..., Any], Rule] = {rule.plain: rule for rule in (
    _torch("dropout", dropout, F.dropout), _torch("dropout1d", dropout1d, F.dropout1d),
    _torch("dropout2d", dropout2d, F.dropout2d), _torch("dropout3d", dropout3d, F.dropout3d),
    _torch("alpha_dropout", alpha_dropout, F.alpha_dropout, training=False),
    _torch("feature_alpha_dropout", feature_alpha_dropout, F.feature_alpha_dropout, training=False),
    _torch("dropout", dropout, torch.dropout, inplace=False), _torch("dropout", dropout, torch.dropout_, inplace=True),
    _torch("alpha_dropout", alpha_dropout, torch.alpha_dropout, inplace=False),
    _torch("alpha_dropout", alpha_dropout, torch.alpha_dropout_, inplace=True),
    _torch("feature_alpha_dropout", feature_alpha_dropout, torch.feature_alpha_dropout, inplace=False),
    _torch("feature_alpha_dropout", feature_alpha_dropout, torch.feature_alpha_dropout_, inplace=True),
    _torch("dropout2d", _features, torch.feature_dropout, inplace=False),
    _torch("dropout2d", _features, torch.feature_dropout_, inplace=True),
    _torch("dropout", _with_mask, torch.native_dropout, inplace=False),
    Rule(_ATTENTION, _ATTENTION, ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"),
         "dropout_p", None, (0.0, True), False, F.scaled_dot_product_attention, _attention))}
"""Every function that drops, torch's and dropkit's."""

RULES.update(_own(row.function.__name__, row.name, row.claims.rate, row.name != _ATTENTION) for row in CATALOG)
RULES.update((_own("dropout_add", "dropout", "p"), _own("drop_path_add", "drop_path", "p")))
