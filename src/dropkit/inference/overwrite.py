"""Sites that may write into their input, because nothing else can still read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules import module as hooks

from dropkit.variants.site import DropoutSite

_FRESH = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm,
          nn.GroupNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SELU, nn.ReLU6, nn.Hardswish)
"""Modules whose output is memory of its own, or their input where they write in place."""


@contextmanager
def overwriting(model: nn.Module, acting: Iterable[nn.Module]) -> Iterator[None]:
    """Let dropout modules that act write in place inside the ``with``, where that changes nothing: it saves fresh memory.

    So it is in an ``nn.Sequential``, after a module that has just made the tensor, if no hook could have kept it.

    Args:
        model: any module; no derivatives are taken, and passes run one after the other.
        acting: its modules that act.

    Example:
        >>> net = nn.Sequential(nn.ReLU(), DropoutSite(0.5), nn.Linear(2, 2), DropoutSite(0.5))
        >>> with overwriting(net, [net[1], net[3]]):
        ...     inside = net[1].inplace, net[3].inplace
        >>> inside, net[3].inplace
        ((False, True), False)
    """
    all_acting = set(acting)
    first = next((module for module in model.modules() if module in all_acting), None)  # what it takes is kept for all passes
    able = {module for module in all_acting if isinstance(module, DropoutSite) and not module.inplace and module is not first}
    chosen: list[DropoutSite] = [] if _watched_by_all() else [site for chain in model.modules() if type(chain) is nn.Sequential
                                           for site in _after_fresh(list(chain)) if site in able]
    try:
        for site in chosen:
            site.inplace = True
        yield
    finally:
        for site in chosen:
            site.inplace = False


def _after_fresh(chain: list[nn.Module]) -> Iterator[DropoutSite]:
    """Sites of a chain whose input was made in it."""
    fresh = False
    for module in chain:
        watched = bool(module._forward_hooks or module._forward_pre_hooks)
        if isinstance(module, DropoutSite) and fresh and not watched:
            yield module
        writes = bool(getattr(module, "inplace", False))
        fresh = type(module) in _FRESH and (fresh or not writes) and not watched


def _watched_by_all() -> bool:
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)
