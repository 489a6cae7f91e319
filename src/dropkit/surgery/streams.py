"""Name the streams of a model's sites."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from dropkit.surgery.modules import walk
from dropkit.surgery.route import routing_of
from dropkit.variants.site import StreamSite

_Model = TypeVar("_Model", bound=nn.Module)


def name_streams(model: _Model) -> _Model:
    """Give each of a model's sites on dropkit's masks its path as the name of its stream.

    Under ``dk.keyed`` its masks are then a function of that name, and stay the same when sites elsewhere in the model
    are added, removed or called in another order. Names from before are replaced.

    Args:
        model: any module; changed in place.

    Returns:
        The model.

    Example:
        >>> from dropkit.variants.dropout import Dropout
        >>> name_streams(nn.Sequential(nn.ReLU(), Dropout()))[1].stream
        '1'
    """
    for name, module in walk(model):
        if isinstance(module, StreamSite):
            module.stream = name
        if (routing := routing_of(module)) is not None:
            routing.path = name
    return model
