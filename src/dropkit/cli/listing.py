"""``dropkit list``: the variants there are."""

from __future__ import annotations

import argparse
from typing import Any

from dropkit.catalog import catalog
from dropkit.surgery.presets import PRESETS


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("list", help="the dropout variants there are", description="List the catalog's variants.")
    parser.add_argument("--presets", action="store_true", help="list the published recipes that one call applies instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each variant, or each preset."""
    lines = [(row.name, row.summary) for row in catalog()]
    if arguments.presets:
        lines = [(row.name, f"{row.variant}: {row.rate}. {row.source}") for row in PRESETS]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")
    return 0
