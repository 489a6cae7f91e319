"""Swap torch's dropout modules for dropkit's and back."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError, phrase
from dropkit.surgery.sites import walk
from dropkit.surgery.streams import name_streams
from dropkit.variants.site import DropoutSite

_Model = TypeVar("_Model", bound=nn.Module)
_TO_DROPKIT: dict[type[nn.Module], type[DropoutSite]] = {
    row.torch_twin: row.module for row in CATALOG if row.torch_twin is not None and issubclass(row.module, DropoutSite)}
_TO_TORCH: dict[type[nn.Module], type[nn.Module]] = {ours: twin for twin, ours in _TO_DROPKIT.items()}


def swap(model: _Model, to: str = "dropkit") -> _Model:
    """Replace torch's dropout modules by dropkit's, or dropkit's by torch's, in place.

    The modules stay the same objects: hooks, sharing, references to them, rates, ``inplace``, training mode and the
    model's ``state_dict`` are untouched; only their class changes. Subclasses of torch's modules are left alone, since
    their ``forward`` may do something else; so is the dropout inside attention and recurrent modules.

    Args:
        model: any module.
        to: ``"dropkit"``, which also names every site's stream by its path, or ``"torch"``.

    Returns:
        The model.

    Raises:
        InputError: for another ``to``; when a module to be swapped for torch's has a setting that torch's lacks. Nothing
            is changed then.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
        >>> type(swap(model)[1]).__module__
        'dropkit.variants.dropout'
        >>> type(swap(model, to="torch")[1]) is nn.Dropout
        True
    """
    if to not in ("dropkit", "torch"):
        raise InputError('to is "dropkit" or "torch"', got=to, fix='Pass to="torch" to go back')
    if to == "torch":
        _to_torch(model)
        return model
    for _, module in walk(model):
        ours = _TO_DROPKIT.get(type(module))
        if ours is not None:
            p = vars(module).pop("p")
            module.__class__ = ours
            module.p = p  # dropkit's is a property that also keeps the rate as a tensor
    return name_streams(model)


def _to_torch(model: nn.Module) -> None:
    ours = [(name, module) for name, module in walk(model) if isinstance(module, DropoutSite) and type(module) in _TO_TORCH]
    for name, module in ours:
        for setting, default in module.extras.items():
            value = getattr(module, setting)
            if value != default:
                raise InputError(f"torch's {type(module).__name__} has no {setting}",
                                 got=phrase(f"{setting}={value!r} at site {name!r}"),
                                 fix=f"Set it to {default!r} first, or keep dropkit's module")
    for _, module in ours:
        p, twin = module.p, _TO_TORCH[type(module)]
        plain: nn.Module = module
        for setting in ("stream", "_p", "rate", *module.extras):
            vars(module).pop(setting, None)
        plain.__class__ = twin
        vars(plain)["p"] = p
