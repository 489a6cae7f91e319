"""``dropkit report``: build the page of a finished study again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dropkit.cli.extras import need


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("report", help="build a finished study's page again",
                                 description="Read result.json and write the page beside it.")
    parser.add_argument("folder", help="the study's folder, or its result.json")
    parser.add_argument("--out", help="the HTML file to write (default: report.html beside result.json)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it lies."""
    need("report", "plotly", "jinja2")
    need("cli", "rich")
    from dropkit.cli.summary import print_summary
    from dropkit.report.page import write_report
    from dropkit.study.result import load_result

    result = load_result(arguments.folder)
    page = write_report(result, Path(arguments.out) if arguments.out else Path(result.out) / "report.html")
    print_summary(result, page)
    return 0
