"""Which sites share a tuned rate."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dropkit.core.errors import InputError
from dropkit.study.result import SiteRate
from dropkit.study.tuning.record import Group

ALL = "all sites"
WAYS = ("all", "per-group", "per-site")


def groups_of(sites: Sequence[SiteRate], how: str) -> list[Group]:
    """Put sites that are to share one rate together.

    Args:
        sites: the model's sites with their intended rates.
        how: ``"all"``: one rate; ``"per-site"``: one for each; ``"per-group"``: one for sites of one kind whose names differ
            in numbers only, such as the layers of an encoder.

    Raises:
        InputError: for another word.

    Example:
        >>> names = ["encoder.0.drop", "encoder.1.drop", "head.drop"]
        >>> [group.label for group in groups_of([SiteRate(name, "Dropout", 0.1) for name in names], "per-group")]
        ['encoder.*.drop', 'head.drop']
    """
    if how not in WAYS:
        raise InputError(f"sites is one of {', '.join(WAYS)}", got=how, fix="Choose one of these")
    members: dict[tuple[str, str], list[SiteRate]] = {}
    for site in sites:
        key = (ALL, "") if how == "all" else (site.name if how == "per-site" else _pattern(site.name), site.kind)
        members.setdefault(key, []).append(site)
    if len(members) == 1:
        members = {(ALL, ""): list(sites)}
    names = [label for label, _ in members]
    return [_group(label if names.count(label) == 1 else f"{label} ({kind})", found)
            for (label, kind), found in members.items()]


def _group(label: str, sites: list[SiteRate]) -> Group:
    if len(sites) == 1:
        label = sites[0].name
    kinds = sorted({site.kind for site in sites})
    return Group(label, [site.name for site in sites], ", ".join(kinds), sum(site.p for site in sites) / len(sites))


def _pattern(name: str) -> str:
    return ".".join(re.sub(r"\d+$", "*", part) for part in name.split("."))
