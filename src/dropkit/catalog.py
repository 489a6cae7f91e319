"""The one table of dropout variants: what each is called, where it is, and what it claims.

The façades `dropkit.nn` and `dropkit.functional`, the site kinds of surgery, ``dropkit list`` and the property suite in
``tests/contract`` derive from it. The suite verifies every claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from dropkit.variants.channel import Dropout1d, Dropout2d, Dropout3d, dropout1d, dropout2d, dropout3d
from dropkit.variants.dropout import Dropout, DropoutSite, dropout

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Claims:
    """What a variant promises; each promise is tested.

    Args:
        mean_preserving: in training the expected output is the input.
        variance_preserving: for inputs of mean 0 and variance 1 the output's variance is 1.
        eval_identity: in evaluation the input itself is returned.
        shape_rule: which elements share one decision.
        dtypes: names of the supported types.
    """

    mean_preserving: bool
    variance_preserving: bool
    eval_identity: bool
    shape_rule: str
    dtypes: tuple[str, ...] = _FLOATS


@dataclass(frozen=True)
class Variant:
    """One row of the catalog.

    Args:
        name: the variant's name, which is also the kind of its sites.
        family: the file of ``dropkit.variants`` that holds it.
        function: the pure function.
        module: the module around it.
        torch_twin: the module of ``torch.nn`` that it can replace, if there is one.
        claims: what it promises.
        example: a batched input shape that it takes.
        unbatched: an input shape without the batch dimension, if it takes one.
        summary: one line for lists.
        reference: where it was published.
        opt_outs: pairs of a contract test that does not apply and the reason.
    """

    name: str
    family: str
    function: Callable[..., Tensor]
    module: type[DropoutSite]
    torch_twin: type[nn.Module] | None
    claims: Claims
    example: tuple[int, ...]
    unbatched: tuple[int, ...] | None
    summary: str
    reference: str
    opt_outs: tuple[tuple[str, str], ...] = ()


_CHANNELS = "Tompson et al., Efficient object localization using convolutional networks, CVPR 2015"

CATALOG: tuple[Variant, ...] = (
    Variant("dropout", "dropout", dropout, Dropout, nn.Dropout,
            Claims(True, False, True, "one decision an element, or shared along share_dims"), (8, 6, 10), (10,),
            "Zeroes single elements, or all elements along chosen dimensions together.",
            "Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 2014"),
    Variant("dropout1d", "channel", dropout1d, Dropout1d, nn.Dropout1d,
            Claims(True, False, True, "one decision a channel of (N, C, L) or (C, L)"), (8, 6, 10), (6, 10),
            "Zeroes whole channels of sequences.", _CHANNELS),
    Variant("dropout2d", "channel", dropout2d, Dropout2d, nn.Dropout2d,
            Claims(True, False, True, "one decision a channel of (N, C, H, W)"), (8, 6, 5, 4), None,
            "Zeroes whole channels of images.", _CHANNELS,
            (("unbatched", "as in torch, an input of 3 dimensions is read as (N, C, L)"),)),
    Variant("dropout3d", "channel", dropout3d, Dropout3d, nn.Dropout3d,
            Claims(True, False, True, "one decision a channel of (N, C, D, H, W) or (C, D, H, W)"), (8, 6, 2, 3, 4),
            (6, 2, 3, 4), "Zeroes whole channels of volumes.", _CHANNELS),
)


def catalog() -> tuple[Variant, ...]:
    """The variants there are, in the order of the documentation.

    Example:
        >>> [row.name for row in catalog()]
        ['dropout', 'dropout1d', 'dropout2d', 'dropout3d']
    """
    return CATALOG
