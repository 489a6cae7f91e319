"""What a row of the catalog says of a variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Claims:
    """What a variant promises; each promise is tested by `dropkit.testing`.

    Args:
        mean_preserving: in training the expected output is the output of evaluation.
        variance_preserving: for inputs of mean 0 and variance 1 the output's variance is 1.
        eval_identity: in evaluation the input itself is returned.
        shape_rule: which elements share one decision.
        dtypes: names of the supported types.
        realised_rate: in training the expected fraction of zeros is p, for an input without zeros.
        rate_one: what a rate of 1 does: ``"zeros"`` (all zero, with zero gradients), ``"refused"``, or ``"other"``.
        random: in training it draws random numbers.
        inplace: it takes ``inplace``.
        recognised: it is an instance of ``torch.nn.modules.dropout._DropoutNd``.
        rate: the attribute that holds the rate or strength; None where it has none or learns it.
        inverted: what is kept is exactly ``x / (1 - p)``.
        state: the keys of its ``state_dict``, those of a layer that it takes over included.
        holds_sites: it is no site itself: its sites are its children, each with a rate and a stream of its own.
    """

    mean_preserving: bool
    variance_preserving: bool
    eval_identity: bool
    shape_rule: str
    dtypes: tuple[str, ...] = _FLOATS
    realised_rate: bool = True
    rate_one: str = "zeros"
    random: bool = True
    inplace: bool = False
    recognised: bool = False
    rate: str | None = "p"
    inverted: bool = False
    state: tuple[str, ...] = ()
    holds_sites: bool = False


@dataclass(frozen=True)
class Trial:
    """How to try a variant: what the contract suite, the pictures and the default benchmark call.

    Args:
        make: a module at a rate.
        inputs: arguments of its ``forward`` for a batch of so many examples, batch first; the first one is the data.
        unbatched: arguments without the batch dimension, where it takes such.
        call: the pure function as ``call(*inputs, p, **options)``; the row's function when None, and not every variant's
            function takes these arguments.
        picture: the module at a rate that pictures show, which see only what of the data gets through; ``make`` when None.
    """

    make: Callable[[float], nn.Module]
    inputs: Callable[[int], tuple[Any, ...]]
    unbatched: Callable[[], tuple[Any, ...]] | None = None
    call: Callable[..., Any] | None = None
    picture: Callable[[float], nn.Module] | None = None


@dataclass(frozen=True)
class Variant:
    """One row of the catalog.

    Args:
        name: the variant's name, which is also the kind of its sites.
        family: the file of ``dropkit.variants`` that holds it.
        function: the pure function, whose docstring has the maths, the use, the rates and the evidence.
        module: the module around it.
        claims: what it promises.
        trial: how to try it.
        summary: one line for lists.
        reference: where it was published.
        torch_twin: the module of ``torch.nn`` that it can replace, if there is one.
        opt_outs: pairs of a contract check that does not apply and the reason.
    """

    name: str
    family: str
    function: Callable[..., Any]
    module: type[nn.Module]
    claims: Claims
    trial: Trial
    summary: str
    reference: str
    torch_twin: type[nn.Module] | None = None
    opt_outs: tuple[tuple[str, str], ...] = ()
