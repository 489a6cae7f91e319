"""A model for serving: a copy without its dropout."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.core.flags import check_flag
from dropkit.inference.fold_rules import absorb, folded_site
from dropkit.inference.twin import copied
from dropkit.inference.uses import alone_by_running, alone_by_structure
from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.insert import applied, remove
from dropkit.surgery.modules import unwrap, walk
from dropkit.surgery.route import routing_of, unroute
from dropkit.surgery.scripted import drawing_scripts, is_active
from dropkit.surgery.sites import sites

_Model = TypeVar("_Model", bound=nn.Module)


def fold(model: _Model, inputs: Any = None, *, verify: bool = True) -> _Model:
    """Copy a model for serving: in evaluation mode, without its dropout modules, and with the same outputs.

    Modules that return their input in evaluation become ``nn.Identity``, so that the other modules keep their names and the
    ``state_dict`` its keys. Classic scaling, which multiplies by q = 1 - p in evaluation, goes into the weight of the linear
    layer or convolution that follows in the same ``nn.Sequential``, where nothing else calls the two or uses that weight, and
    becomes a `Scale` elsewhere; without inputs it becomes one wherever a forward of yours lies around. Layers whose weights are
    dropped become plain layers, and `WeightDrop` what it wraps; ``nn.MultiheadAttention`` and recurrent modules get a rate of
    0, and dropkit's recurrent modules become torch's where evaluation is the same. What ``dk.swap`` routed is unrouted, and
    what ``dk.insert`` put in is taken out.

    Functional calls that heed the mode are left as they are: they do nothing as long as the copy stays in evaluation mode.

    Args:
        model: any module. It stays as it is.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
            Functional calls are looked for with them, and the outputs of model and copy compared.
        verify: whether to compare. False folds by structure alone, and then inputs may be left out.

    Returns:
        The copy.

    Raises:
        InputError: for a site whose evaluation is random or is no plain layer, naming it; for a functional call or a traced
            module that drops in evaluation, too; for a model that cannot be copied; without inputs to verify with; and when
            the outputs differ.

    Example:
        >>> from dropkit.variants.dropout import Dropout
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), Dropout(0.5, scaling="classic"), nn.Linear(2, 1))
        >>> fold(model, torch.ones(1, 2))
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Identity()
          (2): Identity()
          (3): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    walk(model)
    if check_flag(verify, "verify") and inputs is None:
        raise InputError("a fold is verified on inputs", got=phrase("none"),
                         fix="Pass what the model is called with, or verify=False to fold by structure alone")
    if inputs is not None:
        for site in sites(model, inputs):
            if site.always:
                raise InputError("a model to fold does not drop in evaluation", got=phrase(f"{site.name!r} at {site.where}"),
                                 fix="Pass training=self.training to the function, or set its rate to 0")
    inner: Any = unwrap(model)
    folded: _Model = _without_dropout(copied(inner), inputs)
    for name, module in drawing_scripts(folded):
        if is_active(module):  # in evaluation, as the copy is
            raise InputError("a model to fold does not drop in evaluation",
                             got=phrase(f"a scripted or traced module at {name!r}"),
                             fix="Trace it in evaluation, or pass the model as it was before torch.jit")
    if verify:
        _compare(inner, folded, inputs)
    return folded


def _without_dropout(model: Any, inputs: Any) -> Any:
    if any(True for _ in applied(model)):
        _check_inserted(model)
        remove(model, "*")
    for _, module in list(walk(model)):
        if routing_of(module) is not None:
            unroute(module)
    replaced: dict[nn.Module, nn.Module] = {}
    for name, module in list(walk(model)):
        if isinstance(module, nn.RNNBase):  # first: dropkit's own lose their children, which are sites
            folded_site(name, module)
    for name, module in list(walk(model)):
        new = folded_site(name, module)
        if new is not None:
            replaced[module] = new
    plain = _put(model, replaced).eval()
    return absorb(plain, alone_by_structure(plain) if inputs is None else alone_by_running(plain, inputs))


def _check_inserted(model: nn.Module) -> None:
    for hook, _ in applied(model):
        if not isinstance(folded_site(hook.alias, hook.site), nn.Identity):
            raise InputError("an inserted site does nothing in evaluation", got=phrase(f"{hook.site} at {hook.alias!r}"),
                             fix='Insert it with scaling="inverted"')


def _put(model: nn.Module, replaced: dict[nn.Module, nn.Module]) -> nn.Module:
    def last(module: nn.Module) -> nn.Module:
        while module in replaced:
            module = replaced[module]
        return module

    for module in [*model.modules(), *replaced.values()]:
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = last(child)
    return last(model)


def _compare(model: nn.Module, folded: nn.Module, inputs: Any) -> None:
    """Refuse a copy whose outputs are others; what is random in evaluation besides gets the same random numbers."""
    outputs = []
    for one in (model, folded):
        with undisturbed(one), torch.no_grad():
            torch.manual_seed(0)
            outputs.append([leaf for leaf in pytree.tree_leaves(call_model(one.eval(), copy_inputs(inputs)))
                            if isinstance(leaf, Tensor)])
    try:
        torch.testing.assert_close(outputs[1], outputs[0], equal_nan=True)
    except AssertionError as error:
        raise InputError("a folded model has the outputs of the model in evaluation", got=phrase(" ".join(str(error).split())),
                         fix="Report this with the model; verify=False returns the copy as it is") from error
