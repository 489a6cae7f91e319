"""``dropkit list``: the variants there are."""

from __future__ import annotations

import argparse
from typing import Any

from dropkit.catalog import catalog


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("list", help="the dropout variants there are", description="List the catalog's variants.")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each variant."""
    rows = catalog()
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}}  {row.summary}")
    return 0
