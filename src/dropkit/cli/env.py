"""``dropkit env``: versions, and which kernel makes the masks."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata
from typing import Any

import torch

from dropkit.kernels.dispatch import backends


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("env", help="versions, and which kernel makes the masks",
                                 description="Print what a bug report needs.")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print versions and backends."""
    print(f"dropkit {metadata.version('dropkit')}, torch {torch.__version__}, Python {platform.python_version()}, "
          f"{platform.system()} {platform.machine()}")
    for row in backends():
        print(f"{row.device}: {row.backend} ({row.why})")
    return 0
