"""Optional packages, asked for by name before the work that needs them begins."""

from __future__ import annotations

from importlib.util import find_spec

from dropkit.core.errors import MissingExtraError


def need(extra: str, *packages: str) -> None:
    """Raise `MissingExtraError` for the first of ``packages`` that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra if extra in ("parquet", "tune") else "cli")
