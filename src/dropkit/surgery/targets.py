"""Where dropout can be inserted: names, globs, and the modules that hold a new site."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.modules import unwrap, walk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ENUMERATING = {"children", "named_children", "_modules"}  # `modules()` is asked about hooks, as in torch's encoder layer


@dataclass(frozen=True)
class Target:
    """A module at which a dropout is to act.

    Args:
        module: the module.
        reason: why it never could, or None.
    """

    module: nn.Module
    reason: str | None = None


def check_model(model: Any) -> None:
    """Refuse what is no module, or one of TorchScript.

    Args:
        model: what the caller passed.

    Raises:
        InputError: for it.

    Example:
        >>> check_model(nn.ReLU())
    """
    for _, module in walk(model):
        if _is_scripted(module):
            raise InputError("the model to change is written in Python", got=phrase(f"a scripted {type(module).__name__}"),
                             fix="Insert before torch.jit.script or torch.jit.trace")


def every_name(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module under each of its paths, wrappers left out; the first path first.

    Args:
        model: any module.

    Example:
        >>> layer = nn.ReLU()
        >>> [name for name, _ in every_name(nn.Sequential(layer, layer))]
        ['', '0', '1']
    """
    return _every_name(unwrap(model), "", ())


def match_modules(names: Mapping[str, nn.Module], placement: Any,
                  check: Callable[[Any, str], nn.Module]) -> dict[str, tuple[Target, nn.Module]]:
    """The targets of patterns, under the first of each target's names.

    Args:
        names: the modules by path.
        placement: values by name or glob.
        check: returns a value that is in order, or raises.

    Raises:
        InputError: for a pattern that matches no module, or only modules that are never called.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.ModuleList([nn.ReLU()]))
        >>> list(match_modules(dict(every_name(model)), {"**": nn.Dropout()}, lambda value, name: value))
        ['0', '1.0']
    """
    if not isinstance(placement, Mapping) or not placement:
        raise InputError("a placement holds dropouts by the names of modules", got=placement,
                         fix='Pass a dict such as {"layer4": dropkit.nn.DropPath(0.1)}')
    targets = {name: Target(module, _why_not(name, module, names)) for name, module in names.items()}
    globbed: dict[nn.Module, nn.Module] = {}
    exact: dict[nn.Module, nn.Module] = {}
    for pattern, value in placement.items():
        dropout = check(value, str(pattern))
        if pattern in targets:
            if targets[pattern].reason is not None:
                raise InputError("a module to insert at is called by the model", fix=f"{targets[pattern].reason}",
                                 got=phrase(f"{pattern!r}, a {type(names[pattern]).__name__}"))
            exact[names[pattern]] = dropout
        else:
            globbed.update(dict.fromkeys(_globbed(targets, pattern), dropout))
    chosen = globbed | exact
    first: dict[nn.Module, str] = {}
    for name, module in names.items():
        first.setdefault(module, name)
    return {name: (targets[name], chosen[module]) for module, name in first.items() if module in chosen}


def home_of(target: Target, last: bool, inserted: set[nn.Module]) -> nn.Module:
    """The module that holds a new site: the target, or for one that calls all its children its last or first module.

    Args:
        target: a target.
        last: whether the last module rather than the first.
        inserted: sites that hold nothing.

    Raises:
        InputError: for an empty container.

    Example:
        >>> home_of(Target(nn.Sequential(nn.ReLU(), nn.Tanh())), True, set())
        Tanh()
    """
    if not _calls_children(target.module):
        return target.module
    homes = [module for _, module in walk(target.module) if not _calls_children(module) and module not in inserted]
    if not homes:
        raise InputError("a container to insert at holds a module", got=phrase(f"an empty {type(target.module).__name__}"),
                         fix="Insert after the module before it, or put an nn.Identity into it")
    return homes[-1 if last else 0]


def _every_name(module: nn.Module, path: str, above: tuple[nn.Module, ...]) -> Iterator[tuple[str, nn.Module]]:
    if module in above:
        return
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _every_name(unwrap(child), f"{path}.{name}" if path else name, (*above, module))


def _globbed(targets: Mapping[str, Target], pattern: Any) -> list[nn.Module]:
    expression = re.compile(_as_regex(pattern)) if isinstance(pattern, str) else None
    found = [target for name, target in targets.items() if name and expression is not None and expression.fullmatch(name)]
    if not found:
        near = difflib.get_close_matches(str(pattern), targets, n=5, cutoff=0.4) or [name for name in targets if name][:5]
        raise InputError("every pattern matches the name of a module", got=pattern,
                         fix=f"The nearest modules are {', '.join(map(repr, near))}; * stays between dots, ** does not")
    usable = [target.module for target in found if target.reason is None]
    if not usable:
        raise InputError("a module to insert at is called by the model", got=pattern, fix=f"{found[0].reason}")
    return usable


def _as_regex(pattern: str) -> str:
    parts = re.split(r"(\*\*\.|\*\*|\*|\?|\[[^\]]+\])", pattern)
    known = {"**.": r"(?:.+\.)?", "**": ".*", "*": r"[^.]*", "?": r"[^.]"}
    return "".join(known.get(part) or (_as_set(part) if part[:1] == "[" and part[-1:] == "]" else re.escape(part))
                   for part in parts)


def _as_set(part: str) -> str:
    body = part[1:-1].replace("\\", r"\\")
    return f"[^{body[1:]}]" if body[0] == "!" else f"[{body}]"


def _why_not(name: str, module: nn.Module, names: Mapping[str, nn.Module]) -> str | None:
    if type(module).forward is nn.Module.forward and "forward" not in vars(module):
        return "Name its items, as in 'layers.*'; a list of modules is never called itself"
    parent = names.get(name.rpartition(".")[0]) if name else None
    if isinstance(parent, nn.MultiheadAttention):
        return "Insert after the attention itself, which reads this projection's weight and never calls it"
    return None


def _calls_children(module: nn.Module) -> bool:
    # A new child would be called as a layer, or counted, by a forward that goes through all children.
    code = getattr(type(module).forward, "__code__", None)
    return isinstance(module, _CONTAINERS) or bool(code and _ENUMERATING.intersection(code.co_names))


def _is_scripted(module: nn.Module) -> bool:
    return any(base.__module__.startswith("torch.jit") for base in type(module).__mro__)
