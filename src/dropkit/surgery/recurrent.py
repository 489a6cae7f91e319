"""Dropout between the layers of torch's recurrent modules."""

from __future__ import annotations

import warnings

from torch import nn

from dropkit.surgery.modules import walk


def swap_recurrent(model: nn.Module) -> None:
    """Give the recurrent modules of a model dropkit's masks between their layers; those of one layer are reported.

    Torch's fused kernels draw these masks themselves, and no other module does what they do: a module of several layers is
    left as it is.

    Args:
        model: any module.

    Example:
        >>> swap_recurrent(nn.Sequential(nn.Linear(1, 1)))
    """


def unswap_recurrent(model: nn.Module) -> None:
    """Give torch's recurrent modules back.

    Args:
        model: any module.

    Example:
        >>> unswap_recurrent(nn.Sequential(nn.Linear(1, 1)))
    """


def report_idle(model: nn.Module) -> None:
    """Warn of recurrent modules with a rate and one layer, which never drop: dropout acts between layers only.

    Args:
        model: any module.
    """
    idle = [name for name, module in walk(model)
            if isinstance(module, nn.RNNBase) and module.num_layers < 2 and module.dropout > 0]
    if idle:
        warnings.warn(f"a recurrent module of one layer never drops: {', '.join(map(repr, idle))} has a rate and no second "
                      "layer to drop before. Put dropkit.nn.LockedDropout or Dropout after it, or remove the rate.",
                      UserWarning, stacklevel=3)
