"""``dropkit report``: build the page of a finished study again, or compare two."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropkit.cli.extras import need
from dropkit.core.errors import InputError, phrase

if TYPE_CHECKING:
    from dropkit.study.result import StudyResult


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("report", help="build a finished study's page again, or compare two studies",
                                 description="Read result.json and write the page beside it; with two folders, compare them.")
    parser.add_argument("folder", nargs="?", help="the folder of a study or a tuning, or a result.json")
    parser.add_argument("other", nargs="?", help="another study, to compare the first with")
    parser.add_argument("--out", help="the HTML file to write (default: report.html beside result.json; comparison.html "
                                      "beside the second study's)")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of result.json instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it lies."""
    if arguments.schema:
        from dropkit.study.schema import json_schema

        print(json.dumps(json_schema(), indent=1))
        return 0
    if arguments.folder is None:
        raise InputError("a report is made of a study", got=phrase("no folder"), fix="Name the study's folder")
    need("report", "plotly", "jinja2")
    need("cli", "rich")
    from dropkit.cli.summary import print_comparison, print_summary
    from dropkit.report.compare import write_comparison
    from dropkit.report.page import write_report

    result = _study_in(arguments.folder)
    if arguments.other is not None:
        need("study", "scipy")
        other = _study_in(arguments.other)
        page = write_comparison(result, other, arguments.out or Path(other.out) / "comparison.html")
        print_comparison(result, other, page)
        return 0
    page = write_report(result, Path(arguments.out) if arguments.out else Path(result.out) / "report.html")
    print_summary(result, page)
    return 0


def _study_in(folder: str) -> StudyResult:
    """The study in a folder; in a tuning's, the one that confirms it, whose page lies in the tuning's folder."""
    from dropkit.study.result import load_result
    from dropkit.study.tuning.result import CONFIRM, FILE

    if not (Path(folder) / FILE).exists():
        return load_result(folder)
    return replace(load_result(Path(folder) / CONFIRM), out=folder)
