"""Whether a site drops what the model predicts."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils._pytree import tree_leaves

from dropkit.audit.graph import ADDS, CONVOLUTIONS, LAYERS, PLAIN, RESIZERS, SOFTMAX, VIEWS, Graph, source
from dropkit.audit.observation import Observation, Op, SiteCall

_ON_THE_WAY = PLAIN | SOFTMAX | RESIZERS | {"stack"}  # stacked: the predictions of several steps


class Predictions:
    """What a model returns, as far as its last layers make it.

    Args:
        seen: what the probe has seen.
        known: the graph of a pass of it.
    """

    def __init__(self, seen: Observation, known: Graph) -> None:
        self._outputs = known.outputs() or set()
        shapes = [x.shape for x in tree_leaves(seen.inputs) if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1]
        self._widths = {shape[-1] for shape in shapes}
        self._channels = {shape[1] for shape in shapes}

    def dropped_by(self, site: SiteCall) -> Op | None:
        """The layer whose result a site drops on its way out of the model; None where the site drops no prediction.

        A block that returns as many features as it was given is a part of something larger, and so no layer of its predicts.

        Args:
            site: one of the graph's.
        """
        layer = source(site.op, VIEWS | SOFTMAX | RESIZERS)
        if layer is None or not layer.parameters or layer.name not in LAYERS or not layer.shape:
            return None
        maps = layer.name in CONVOLUTIONS and len(layer.shape) > 2
        if layer.shape[1] in self._channels if maps else layer.shape[-1] in self._widths:
            return None
        return layer if any(op in self._outputs for op in _last(site.op)) else None


def _last(op: Op) -> Iterator[Op]:
    """The operations without users that a result reaches through nothing that computes features."""
    if not op.users:
        yield op
    for user in op.users:
        if user.site is None and (user.name in _ON_THE_WAY or (user.name in ADDS and all(map(_dropped, user.parents)))):
            yield from _last(user)


def _dropped(op: Op) -> bool:
    """Whether a result is a dropped one, or a sum of such: the predictions of several layers, none of which is a bypass."""
    if op.site is not None:
        return op.site.active and op.site.p > 0
    return op.name in ADDS | VIEWS and bool(op.parents) and all(map(_dropped, op.parents))
