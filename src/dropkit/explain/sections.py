"""A docstring in its sections."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

SHOWN = ("Use", "Rates", "Evidence", "References")
"""The sections that tell about a variant rather than about its arguments."""

_TITLE = re.compile(r"^([A-Z][A-Za-z]+):$")


def sections(function: Callable[..., Any]) -> dict[str, str]:
    """The docstring of a function by section.

    Args:
        function: a variant's pure function.

    Returns:
        Texts by title, in order, without their indentation; the summary is ``"Summary"``, and what stands between it and
        the first section is ``"Maths"``.

    Example:
        >>> from dropkit.variants.dropout import dropout
        >>> sections(dropout)["Summary"]
        'Zero elements at random in training.'
    """
    summary, _, rest = (inspect.getdoc(function) or "").partition("\n\n")
    found: dict[str, list[str]] = {"Summary": [summary], "Maths": []}
    title = "Maths"
    for line in rest.splitlines():
        heading = _TITLE.match(line)
        if heading:
            title = heading[1]
            found[title] = []
        else:
            found[title].append(line)
    return {name: inspect.cleandoc("\n".join(["", *lines])).strip() for name, lines in found.items()}


def plain(text: str) -> str:
    """A text as it reads in a terminal: without the marks of code.

    Args:
        text: from a docstring.

    Example:
        >>> plain("``y = x``, see `dropout`")
        'y = x, see dropout'
    """
    return re.sub(r"`+", "", text)
