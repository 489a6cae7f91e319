"""Changes of a recipe that are made to the network itself: another variant, classic scaling, batch normalisation."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError, phrase
from dropkit.study.readers import nearest
from dropkit.study.recipe import Recipe
from dropkit.surgery.streams import name_streams
from dropkit.variants.claims import Variant
from dropkit.variants.dropout import Dropout
from dropkit.variants.site import RateSite

_NORMS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.Linear, nn.BatchNorm1d), (nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))
_PRESENT = nn.modules.batchnorm._BatchNorm
BATCH_NORM = "batch_norm"
"""The name under which a layer holds its normalisation."""


def remodel(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Change ``model``, which is on dropkit's masks, as the recipe says, and return it.

    No random number is drawn, and the weights keep names and values, so that arms stay paired.

    Args:
        model: as the builder made it and ``dk.swap`` changed it; changed in place.
        recipe: the arm's.

    Raises:
        InputError: the model has nothing that the change could act on.
    """
    if recipe.variant is not None:
        model = _vary(model, recipe.variant)
    if recipe.classic:
        for module in _elementwise(model, "classic scaling").values():
            module.scaling = "classic"
    if recipe.batch_norm:
        _normalise(model)
    return model


def variants() -> dict[str, Variant]:
    """Return the rows of the catalog that can stand wherever element-wise dropout does, by name."""
    return {row.name: row for row in CATALOG if issubclass(row.module, RateSite) and row.claims.rate == "p"
            and not row.claims.state and not row.claims.holds_sites and row.claims.eval_identity
            and (row.claims.mean_preserving or row.claims.variance_preserving) and _takes_one(row.module)}


def _takes_one(module: type[nn.Module]) -> bool:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    first = next(iter(list(inspect.signature(module).parameters.values())), None)
    return (first is not None and first.name == "p"
            and sum(one.default is one.empty and one.kind is not one.VAR_POSITIONAL for one in parameters) == 1)


def _vary(model: nn.Module, name: str) -> nn.Module:
    rows = variants()
    if name not in rows:
        raise InputError("variant is a row of the catalog that takes the place of element-wise dropout", got=name,
                         fix=nearest(name, tuple(rows)))
    made: dict[Dropout, nn.Module] = {}  # dropout that is shared stays shared
    for old in _elementwise(model, f"variant {name!r}").values():
        made[old] = rows[name].module(old.p).train(old.training)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):  # named_children skips repeats
            if isinstance(child, Dropout) and child in made:
                setattr(parent, key, made[child])
    return name_streams(made.get(model, model) if isinstance(model, Dropout) else model)


def _elementwise(model: nn.Module, what: str) -> dict[str, Dropout]:
    found = {name: module for name, module in model.named_modules() if type(module) is Dropout}
    if not found:
        raise InputError(f"{what} needs element-wise dropout modules in the model", got=phrase("none of them"),
                         fix="Build the model with nn.Dropout instead of functional calls, or leave this arm out")
    return found


def _normalise(model: nn.Module) -> None:
    modules = list(model.named_modules())
    if any(isinstance(module, _PRESENT) for _, module in modules):
        raise InputError("batch_norm is put into a model that has none", got=phrase("a model with BatchNorm in it"),
                         fix="Leave this arm out")
    inside = tuple(f"{name}." if name else "" for name, module in modules if isinstance(module, nn.MultiheadAttention))
    layers = [module for name, module in modules if _norm_of(module) and not (inside and name.startswith(inside))]
    if len(layers) < 2:
        raise InputError("batch_norm needs a linear or convolutional layer before the last",
                         got=phrase(f"{len(layers)} in all"), fix="Leave this arm out")
    for layer in layers[:-1]:
        width: Any = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        norm = _norm_of(layer)(width).to(layer.weight.device, layer.weight.dtype)  # type: ignore[misc]
        layer.add_module(BATCH_NORM, norm.train(layer.training))
        layer.register_forward_hook(_normalised)


def _norm_of(module: nn.Module) -> type[nn.Module] | None:
    return next((norm for kind, norm in _NORMS if isinstance(module, kind)), None)


def _normalised(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    norm = layer.get_submodule(BATCH_NORM)
    if not isinstance(layer, nn.Linear):
        return norm(output)  # type: ignore[no-any-return]
    flat: Tensor = norm(output.reshape(-1, output.shape[-1]))  # features stand last, whatever stands before them
    return flat.reshape(output.shape)
