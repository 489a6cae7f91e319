"""Insert dropout after or before any module of a model, and take it out again."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.applied import After, Applied, Before
from dropkit.surgery.modules import kind_of, walk
from dropkit.surgery.targets import Target, check_model, every_name, home_of, match_modules
from dropkit.variants.site import StreamSite

_KINDS: dict[str, type[Applied]] = {"after": After, "before": Before}


class Placement(dict[str, nn.Module]):
    """Which dropout goes where: names of modules with a dropout for each, as `insert` takes them.

    Args:
        modules: dropouts by name of a module.
        where: ``"after"`` or ``"before"`` the module.
        notes: what a placement helper could not tell.

    Example:
        >>> print(Placement({"fc": nn.Dropout(0.2)}, where="before"))
        before fc: Dropout(p=0.2, inplace=False)
    """

    def __init__(self, modules: Mapping[str, nn.Module], where: str = "after", notes: Iterable[str] = ()) -> None:
        super().__init__(modules)
        self.where, self.notes = where, tuple(notes)

    def __str__(self) -> str:
        lines = [f"{self.where} {name or 'the model'}: {module}" for name, module in self.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Insertion:
    """What `insert` put into a model.

    Args:
        names: the names of the new sites, as ``dk.sites`` shows them.
        hooks: what applies them.
    """

    names: tuple[str, ...]
    hooks: tuple[Applied, ...] = field(repr=False)


def insert(model: nn.Module, placement: Mapping[str, nn.Module], *, where: str | None = None,
           output: int | str = 0) -> Insertion:
    """Put a dropout after or before modules of a model, in place.

    Each target gets its own copy of the dropout, in the target's mode, as a submodule without state: the ``state_dict``, the
    outputs in evaluation, hooks, and the ways to copy, pickle, compile and wrap the model stay as they are. The new site is
    ``"layer4.after_dropout"`` for a target ``"layer4"``. What is inside a container such as ``nn.Sequential`` would be called
    as a layer, so there the site lives in the container's last or first module, and `remove` knows it by the container's name
    too. A module used in several places is one target, under any of its names. Nothing changes unless all is in order.

    Code that ``torch.compile`` made before is forgotten, since it would not know of the change. A hook anywhere inside
    ``nn.TransformerEncoderLayer`` keeps torch from its fused evaluation without gradients: it then computes the layer step by
    step, to the same values but for rounding.

    Args:
        model: any module; wrappers of ``torch.compile`` and of data parallelism do not show in names.
        placement: dropouts by name or glob of modules, or what ``dk.placement`` made. In globs ``*`` stays between two dots
            and ``**`` reaches any depth: ``"layers.*"`` means the layers themselves, ``"**.norm"`` every norm. Where several
            match a module the last one counts; a module's own name counts above every glob. The model itself is named
            ``""`` and matches no glob.
        where: ``"after"`` or ``"before"``. Default: what the placement says, or ``"after"``.
        output: which element, where a module returns several: a position, a key, or a field's name. With ``"before"``, which
            argument. Default: 0.

    Returns:
        What was put in, for `remove`.

    Raises:
        InputError: for a pattern that matches no module that is called; for something else than a dropout without parameters;
            for modules that torch never calls (containers of modules, the projection inside ``nn.MultiheadAttention``) or
            that are scripted.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> insert(model, {"1": nn.Dropout(0.5)})
        Insertion(names=('1.after_dropout',))
        >>> bool((model[1](torch.ones(1000)) == 0).any())
        True
    """
    check_model(model)
    chosen = where or getattr(placement, "where", "after")
    if chosen not in _KINDS:
        raise InputError('where is "after" or "before"', got=chosen, fix='Pass where="before" to act on what a module takes')
    element, inserted = _check_element(output), {hook.site for hook, _ in applied(model)}
    names = {name: module for name, module in every_name(model) if module not in inserted}
    matched = match_modules(names, placement, check_dropout)
    plans = [_plan(name, target, dropout, _KINDS[chosen], element, inserted) for name, (target, dropout) in matched.items()]
    for target, home, hook in plans:
        home.add_module(_free_name(home, target, hook), hook.site)
        hook.attach(target.module)
    _forget_compiled()
    paths = {module: name for name, module in walk(model)}
    for _, _, hook in plans:
        if isinstance(hook.site, StreamSite):
            hook.site.stream = paths[hook.site]
    return Insertion(tuple(paths[hook.site] for _, _, hook in plans), tuple(hook for _, _, hook in plans))


def remove(model: nn.Module, sites: str | Insertion | Iterable[str]) -> tuple[str, ...]:
    """Take out of a model what `insert` put in, without a trace.

    Args:
        model: the model, or a copy of it.
        sites: the name of a site, such as ``"layer4.after_dropout"``, a glob as in ``dk.set_rate`` (``"*"`` for all), several
            of them, or what `insert` returned for this very model.

    Returns:
        The names that the sites had.

    Raises:
        InputError: for a name or glob that matches no inserted site, or an insertion that is not in the model. Nothing is
            changed then.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> put = insert(model, {"1": nn.Dropout(0.5)})
        >>> remove(model, put)
        ('1.after_dropout',)
    """
    check_model(model)
    paths = {module: name for name, module in walk(model)}
    present = [(paths.get(hook.site, hook.alias), hook) for hook, _ in applied(model)]
    chosen = _held(present, sites) if isinstance(sites, Insertion) else _named(present, sites)
    gone = {hook.site for _, hook in chosen}
    for module in list(paths):
        for key, child in list(module._modules.items()):
            if child in gone:
                del module._modules[key]
    for _, hook in chosen:
        hook.detach()
    _forget_compiled()
    return tuple(name for name, _ in chosen)


def applied(model: nn.Module) -> Iterator[tuple[Applied, nn.Module]]:
    """The hooks that `insert` made, each with the module it acts at.

    Args:
        model: any module.

    Example:
        >>> model = nn.Sequential(nn.ReLU())
        >>> _ = insert(model, {"0": nn.Dropout(0.5)}, where="before")
        >>> [(hook.where, hook.target) for hook, _ in applied(model)]
        [('before', '0')]
    """
    for _, module in walk(model):
        hooks: tuple[Any, ...] = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        for hook in hooks:
            if isinstance(hook, Applied):
                yield hook, module


def check_dropout(dropout: Any, name: str = "") -> nn.Module:
    """A dropout that can be inserted, or an error that says why it cannot.

    Args:
        dropout: what the user passed.
        name: for which module.

    Raises:
        InputError: for a value that is no dropout, has parameters or buffers, takes several inputs, or works in place.

    Example:
        >>> check_dropout(nn.Dropout(0.1))
        Dropout(p=0.1, inplace=False)
    """
    place = f" for {name!r}" if name else ""
    if not isinstance(dropout, nn.Module) or kind_of(dropout) is None:
        raise InputError("what is inserted is a dropout", got=phrase(f"{_short(dropout)}{place}"),
                         fix="Pass a module of dropkit.nn, such as dropkit.nn.DropPath(0.1)")
    if next(dropout.parameters(), None) is not None or next(dropout.buffers(), None) is not None:
        raise InputError("insert takes variants without parameters", got=phrase(f"{_short(dropout)}{place}"),
                         fix="Assign it in the place of the layer that it takes over")
    needed = [parameter for parameter in inspect.signature(dropout.forward).parameters.values()
              if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD]
    if len(needed) != 1:
        raise InputError("an inserted dropout takes one input", got=phrase(f"{_short(dropout)}{place}"),
                         fix="Call it in the model's forward")
    if getattr(dropout, "inplace", False):
        raise InputError("an inserted dropout leaves its input alone", got=phrase(f"{_short(dropout)}{place}"),
                         fix="Pass inplace=False: others may still need the tensor")
    return dropout


_Plan = tuple[Target, nn.Module, Applied]


def _check_element(output: Any) -> int | str:
    if isinstance(output, bool) or not (isinstance(output, str) or (isinstance(output, int) and output >= 0)):
        raise InputError("output is a position from 0, or a name", got=output, fix="Pass output=0 for the first element")
    return output


def _plan(name: str, target: Target, dropout: nn.Module, kind: type[Applied], output: int | str,
          inserted: set[nn.Module]) -> _Plan:
    site = copy.deepcopy(dropout).train(target.module.training)
    return target, home_of(target, kind is After, inserted), kind(site, output, name)


def _free_name(home: nn.Module, target: Target, hook: Applied) -> str:
    own = home is target.module
    base = f"{hook.where}_dropout" if own else f"{hook.where}_{hook.target.replace('.', '_') or 'model'}_dropout"
    name, number = base, 2
    while hasattr(home, name):
        name, number = f"{base}_{number}", number + 1
    return name


_Present = list[tuple[str, Applied]]


def _held(present: _Present, insertion: Insertion) -> _Present:
    held = set(map(id, insertion.hooks))
    chosen = [(name, hook) for name, hook in present if id(hook) in held]
    if len(chosen) < len(held):
        raise InputError("an insertion is in the model", got=insertion,
                         fix="It was removed before, or belongs to another model; a copy's sites are removed by name")
    return chosen


def _named(present: _Present, sites: Any) -> _Present:
    patterns = [sites] if isinstance(sites, str) else list(sites) if isinstance(sites, Iterable) else [sites]
    chosen: dict[int, tuple[str, Applied]] = {}
    for pattern in patterns:
        exact = [(name, hook) for name, hook in present if pattern in (name, hook.alias)]
        found = exact or [(name, hook) for name, hook in present if isinstance(pattern, str)
                          and (fnmatchcase(name, pattern) or fnmatchcase(hook.alias, pattern))]
        if not found:
            known = ", ".join(repr(name) for name, _ in present[:8]) or "none"
            raise InputError("what is removed was inserted", got=pattern, fix=f"The inserted sites are: {known}")
        chosen.update((id(hook), (name, hook)) for name, hook in found)
    return list(chosen.values())


def _forget_compiled() -> None:
    # Dynamo does not look at hooks again once code is compiled (torch._dynamo.config.skip_nnmodule_hook_guards), and which
    # compiled code uses a module cannot be asked.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _short(value: Any) -> str:
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)
