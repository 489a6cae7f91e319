"""Arms from text such as ``none,intended+weight_decay=0.001,leave-one-out``, and the families that expand to several arms."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.study.readers import nearest
from dropkit.study.result import SiteRate
from dropkit.study.spec import CHANGES, Spec, arm
from dropkit.study.wording import count

FACTORS = {"none": 0.0, "reduced": 0.5, "intended": 1.0}
"""Arms that are a factor on the intended rates, by name."""
FAMILIES = ("rates", "leave-one-out", "classic", "factorial")
"""Names that stand for several arms."""

_SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # factors on the intended rates
_HIGHEST = 0.95  # a sweep leaves out factors that take a rate above this
_GROUPS = 8  # most arms of leave-one-out; more sites than that are left out in groups
_LIMIT = 32  # most arms of a factorial
_FLAGS = ("batch_norm", "flip", "augment")
_TYPES: dict[str, Callable[[str], Any]] = {
    "weight_decay": float, "label_smoothing": float, "max_norm": float, "noise": float, "shift": int, "early_stopping": int,
    "members": int, "variant": str, "schedule": str}
_OF_DROPOUT = ("variant", "schedule")
_TERMS = (*FACTORS, "rate", "factor", *_TYPES, *_FLAGS)


def read_arms(text: str, intended: Sequence[SiteRate]) -> dict[str, Spec]:
    """Read arms from their text.

    Arms are parted by commas. One is a rate term, changes to the recipe, or both joined by ``+``. Rate terms are ``none``,
    ``reduced``, ``intended``, ``factor=0.25`` and ``rate=0.3`` (everywhere). Families stand alone and bring the arms that they
    are compared with: ``rates`` (a sweep of factors) or ``rates=0.1:0.3`` (of rates), ``leave-one-out`` (as intended, without
    one site each, or without a group each where there are many), ``classic`` (classic scaling), and ``factorial`` (all
    combinations of the single terms in the text).

    Args:
        text: the arms.
        intended: the model's sites with their intended rates.

    Returns:
        Name -> specification, each once.

    Raises:
        InputError: a name is unknown, or a value does not fit.

    Example:
        >>> list(read_arms("none, noise=0.10, leave-one-out", [SiteRate("2", "dropout", 0.5), SiteRate("5", "dropout", 0.5)]))
        ['none', 'noise=0.1', 'intended', 'without 2', 'without 5']
    """
    items = split(text)
    single = [item for item in items if _family(item) is None]
    found: dict[str, Spec] = {}
    for item in items:
        family = _family(item)
        found |= dict([read_arm(item)]) if family is None else _expand(family, item, single, intended)
    return found


def read_arm(text: str) -> tuple[str, Spec]:
    """Read one arm and return its name, in which numbers are shortest, and its specification.

    Args:
        text: terms joined by ``+``.

    Raises:
        InputError: a term is unknown, stands twice, or its value does not fit.

    Example:
        >>> read_arm("intended + weight_decay=1e-3")[0]
        'intended+weight_decay=0.001'
    """
    rates: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    terms = [_term(term) for term in re.split(r"\+(?=\s*[a-zA-Z])", text)]
    for name, value in terms:
        kind = changes if name in CHANGES else rates
        if name in kind or len(rates) > 1 or (kind is rates and rates):
            raise InputError("an arm has one rate and each change once", got=text, fix="Part several arms by commas")
        kind[name] = value
    given = next((_rates(name, value) for name, value in rates.items()), None)
    return "+".join(_shown(*term) for term in terms), arm(given, **changes)


def split(text: str) -> list[str]:
    """Part a text at its commas, but not inside brackets or quotes.

    Example:
        >>> split('none, schedule="linear(0, 1)"')
        ['none', 'schedule="linear(0, 1)"']
    """
    pieces = re.findall(r"""(?:"[^"]*"|'[^']*'|\((?:[^()]|\([^()]*\))*\)|[^,])+""", text)
    return [piece.strip() for piece in pieces if piece.strip()]


def _term(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if name not in _TERMS:
        known = (*_TERMS, *FAMILIES)
        raise InputError("an arm is made of known terms", got=name, fix=nearest(name, known))
    if (name in FACTORS or name in _FLAGS) == bool(equals):
        rule = f"{name} takes no value" if equals else f"{name} takes a value"
        raise InputError(rule, got=text.strip(), fix=f"Write {name}" if equals else f"Write {name}={_example(name)}")
    if not equals:
        return name, True
    try:
        return name, _TYPES.get(name, float)(value.strip("\"'"))
    except ValueError:
        raise InputError(f"{name} takes a number", got=text.strip(), fix=f"Write for example {name}={_example(name)}") from None


def _example(name: str) -> str:
    return {"weight_decay": "0.001", "max_norm": "3", "early_stopping": "5", "shift": "2", "members": "4",
            "variant": "gaussian_dropout", "schedule": "curriculum(1.0)"}.get(name, "0.1")


def _shown(name: str, value: Any) -> str:
    return name if value is True else f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _rates(name: str, value: Any) -> Any:
    return FACTORS.get(name, value if name == "factor" else {"*": value})


def _family(item: str) -> str | None:
    name = item.partition("=")[0].strip().replace("_", "-")
    return name if name in FAMILIES else None


def _expand(family: str, item: str, single: Sequence[str], intended: Sequence[SiteRate]) -> dict[str, Spec]:
    value = item.partition("=")[2].strip()
    if value and family != "rates":
        raise InputError(f"{family} takes no value", got=item, fix=f"Write {family}")
    if family == "rates":
        return _sweep(value, intended)
    if family == "leave-one-out":
        return _leave_one_out(intended)
    if family == "classic":
        return {"intended": Spec(1.0), "classic": arm(1.0, against="intended", classic=True)}
    return _factorial(single)


def _sweep(value: str, intended: Sequence[SiteRate]) -> dict[str, Spec]:
    if value:
        return _read(["none", *(f"rate={rate}" for rate in value.split(":"))])
    top = max((site.p for site in intended), default=0.0)
    names = {factor: name for name, factor in FACTORS.items()}
    return _read(names.get(factor, f"factor={factor:g}") for factor in _SWEEP if factor <= 1 or factor * top <= _HIGHEST)


def _read(items: Iterable[str]) -> dict[str, Spec]:
    return dict(read_arm(item) for item in items)


def _leave_one_out(intended: Sequence[SiteRate]) -> dict[str, Spec]:
    groups = grouped([site.name for site in intended if site.p > 0])
    if len(groups) < 2:
        raise InputError("leave-one-out needs two places or more where the model drops something",
                         got=phrase(f"{len(groups)} of them"), fix="Compare none with intended instead")
    without = {f"without {label}": arm(dict.fromkeys(names, 0.0), against="intended") for label, names in groups.items()}
    return {"intended": Spec(1.0), **without}


def grouped(names: Sequence[str], most: int = _GROUPS) -> dict[str, list[str]]:
    """Group the names of sites until there are no more than ``most`` groups: by the deepest path that does it, else in order.

    Args:
        names: module paths.
        most: groups, at least 1.

    Example:
        >>> grouped([f"layers.{i}.{part}" for i in range(2) for part in "ab"], most=2)
        {'layers.0.*': ['layers.0.a', 'layers.0.b'], 'layers.1.*': ['layers.1.a', 'layers.1.b']}
        >>> grouped(["1", "3", "5"], most=2)
        {'1 to 3': ['1', '3'], '5': ['5']}
    """
    if len(names) <= most:
        return {name: [name] for name in names}
    for depth in range(max(name.count(".") for name in names), 0, -1):
        groups: dict[str, list[str]] = {}
        for name in names:
            parts = name.split(".")
            groups.setdefault(".".join([*parts[:depth], "*"]) if len(parts) > depth else name, []).append(name)
        if len(groups) <= most:
            return groups
    size = -(-len(names) // most)
    runs = [list(names[start:start + size]) for start in range(0, len(names), size)]
    return {run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}": run for run in runs}


def _factorial(single: Sequence[str]) -> dict[str, Spec]:
    levels: dict[str, list[str]] = {"rates": ["none"]}
    for item in single:
        name, spec = read_arm(item)
        if "+" in item or any(getattr(spec.recipe, field) is not None for field in _OF_DROPOUT):
            raise InputError("a factorial combines single rate terms and changes that stand without dropout, too", got=item,
                             fix="List such as none,intended,weight_decay=0.001,batch_norm,factorial")
        term = name.partition("=")[0]
        key = term if term in CHANGES else "rates"
        levels.setdefault(key, ["none"] if key == "rates" else [""])
        if name not in levels[key]:
            levels[key].append(name)
    cells = [_joined(cell) for cell in itertools.product(*levels.values())]
    if sum(len(values) > 1 for values in levels.values()) < 2 or len(cells) > _LIMIT:
        raise InputError(f"a factorial has at least two things that change, and at most {_LIMIT} arms",
                         got=phrase(f"{count(len(cells), 'arm')} of {', '.join(single) or 'nothing'}"),
                         fix="List such as intended,weight_decay=0.001,factorial")
    return _read(cells)


def _joined(cell: Sequence[str]) -> str:
    changes = [term for term in cell[1:] if term]
    return "+".join(changes if changes and cell[0] == "none" else [cell[0], *changes])
