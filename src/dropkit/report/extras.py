"""The packages of the ``report`` extra, imported on use so that dropkit does not need them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from dropkit.core.errors import MissingExtraError


def load(module: str) -> ModuleType:
    """Import ``module``, a part of the ``report`` extra.

    Args:
        module: dotted name, such as ``"plotly.graph_objects"``.

    Returns:
        The module.

    Raises:
        MissingExtraError: its package is not installed.

    Example:
        >>> load("jinja2").__name__
        'jinja2'
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there, but something that it needs is not: its own message says more
        raise MissingExtraError(package, "report") from error


def figure(traces: list[dict[str, Any]], layout: dict[str, Any]) -> Any:
    """Build a ``plotly.graph_objects.Figure`` from plain dictionaries, checked by plotly.

    Args:
        traces: the traces, each with its ``type``.
        layout: the layout.

    Returns:
        The figure.

    Raises:
        MissingExtraError: plotly is not installed.

    Example:
        >>> len(figure([{"type": "scatter", "x": [0, 1], "y": [0, 1]}], {}).data)
        1
    """
    return load("plotly.graph_objects").Figure(data=traces, layout=layout)
