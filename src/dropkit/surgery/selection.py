"""Choose sites of a model by name, kind or glob, and number their blocks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.sites import sites

_KIND = "kind:"


def select(model: nn.Module, patterns: Sequence[str]) -> dict[str, list[str]]:
    """The sites whose rates can be scheduled, by the pattern that names them: all but those that learn theirs or have none.

    Args:
        model: any module.
        patterns: names of sites, kinds such as ``"drop_path"``, ``"kind:"`` with a kind, or globs of names. Where several
            match a site the last one counts; a site's own name counts above all others.

    Returns:
        The names of each pattern's sites in the order of the model.

    Raises:
        InputError: for a model without such sites, a pattern that matches none, or one that is both a site's name and the
            kind of others.

    Example:
        >>> select(nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.Dropout()), ["*", "dropout2d"])
        {'*': ['0', '2'], 'dropout2d': ['1']}
    """
    kinds = {site.name: site.kind for site in sites(model) if site.settable}
    if not kinds:
        raise InputError("a model whose rates are scheduled has dropout modules", got=phrase(type(model).__name__),
                         fix="Add dropkit.nn.Dropout where it should drop; calls of F.dropout can be set once "
                             "dropkit.swap(model, inputs=...) has found them")
    if not patterns:
        raise InputError("there is a pattern of sites", got=list(patterns), fix='Pass "*" for all of them')
    owner: dict[str, str] = {}
    for pattern in sorted(patterns, key=lambda pattern: pattern in kinds):  # stable: names last, so that they win
        owner.update(dict.fromkeys(_matched(pattern, kinds), pattern))
    return {pattern: [name for name in kinds if owner.get(name) == pattern] for pattern in patterns}


def block_numbers(names: Sequence[str]) -> list[int]:
    """The block of each site, counted from 0 in order.

    A block is the nearest module around the site that has a number for a name; a site without one is a block of its own.

    Args:
        names: of sites.

    Example:
        >>> block_numbers(["blocks.0.drop_path1", "blocks.0.mlp.drop", "blocks.1:dropout", "head_drop"])
        [0, 0, 1, 2]
    """
    seen: dict[str, int] = {}
    return [seen.setdefault(_block(name), len(seen)) for name in names]


def _block(name: str) -> str:
    parts = name.replace(":", ".").split(".")  # a call belongs to the module that makes it
    numbered = [i for i, part in enumerate(parts[:-1]) if part.isdecimal()]
    return ".".join(parts[:numbered[-1] + 1]) if numbered else name


def _matched(pattern: Any, kinds: dict[str, str]) -> list[str]:
    if not isinstance(pattern, str):
        raise InputError("a pattern of sites is a str", got=pattern, fix='Pass a name, a kind or a glob, such as "*"')
    of_kind = [name for name, kind in kinds.items() if kind == pattern.removeprefix(_KIND)]
    if pattern in kinds:
        if set(of_kind) - {pattern}:
            one = f"[{pattern[0]}]{pattern[1:]}"
            raise InputError("a pattern is a site's name or a kind, not both", got=pattern,
                             fix=f'Write "{_KIND}{pattern}" for all of the kind or "{one}" for the one site')
        return [pattern]
    found = of_kind or [name for name in kinds if fnmatchcase(name, pattern)]
    if not found:
        raise InputError("every pattern matches a site by its name or kind", got=pattern, fix=_nearest(pattern, kinds))
    return found


def _nearest(pattern: str, kinds: dict[str, str]) -> str:
    known = dict.fromkeys([*kinds, *kinds.values()])
    near = difflib.get_close_matches(pattern, known, n=5, cutoff=0.4) or list(kinds)[:5]
    of = _listed(set(kinds.values()))
    return f"The nearest are {_listed(near)}; dropkit.sites(model) lists all {len(kinds)}; kinds are {of}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
