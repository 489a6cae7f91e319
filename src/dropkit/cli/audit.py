"""``dropkit audit``: dropout mistakes in a model or in source code."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dropkit.audit.finding import SEVERITIES
from dropkit.audit.result import AuditResult
from dropkit.core.errors import FAILURES, DropkitError, InputError, phrase
from dropkit.core.files import check_place, write_atomically

_PAUSE = 10.0  # seconds from one line of progress to the next
_ID = re.compile(r"D|DK\d{0,3}")
_ABOUT = """Find dropout mistakes in a model, or in source code with --static. Exit code: 0 if there is no finding at the
level of --fail-level or above, 1 if there is one, 2 if the audit could not run, read no file, or was left no rule. What was
not covered is listed and is never called clean."""
_TARGET = """package.module:build or file.py:build (a function that returns the model, a model class or a model),
transformers:TYPE or transformers:CONFIG.json (built from its configuration, without weights; fields may follow:
transformers:bert,num_hidden_layers=2), or files and folders with --static"""
_INPUT = """an input's shape: 2,3,224,224, with a type and a range if wanted: 2,16:int64:0..1000; NAME=2,16:int64:0..1000 for a
keyword; several for several inputs"""

_RATES = """the builder's arguments that are rates, with commas: each is to reach a site (default: arguments, or fields of a
configuration, whose names contain "drop")"""


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("audit", help="find dropout mistakes in a model or in source code", description=_ABOUT)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=_TARGET)
    parser.add_argument("--static", action="store_true", help="read source code and run nothing")
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE", help=_INPUT)
    parser.add_argument("--inputs", metavar="MODULE:FACTORY", help="a function that returns what the model is called with")
    parser.add_argument("--rate-arguments", metavar="NAMES", help=_RATES)
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS",
                        help="a pass of the model that takes longer is ended and counts as not covered (default: 300)")
    parser.add_argument("--format", choices=("table", "json", "sarif", "github"), default="table", help="(default: table)")
    parser.add_argument("--out", metavar="FILE", help="write there instead of to the terminal")
    for name, what in (("select", "only these rules"), ("ignore", "leave out these rules")):
        parser.add_argument(f"--{name}", action="append", metavar="IDS", help=f"{what}: ids or beginnings of ids, with commas")
    parser.add_argument("--baseline", metavar="FILE", help="leave out the findings that this file knows")
    parser.add_argument("--write-baseline", metavar="FILE", help="write the findings to this file and exit with 0")
    parser.add_argument("--fix", action="store_true", help="print a patch of what is safe to rewrite, for `git apply`, and the "
                        "result to the standard error; no file is changed")
    parser.add_argument("--fail-level", choices=SEVERITIES, default="warning",
                        help="the lowest severity that makes the exit code 1 (default: warning)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit, print or write the result, and return the exit code."""
    for file in filter(None, (arguments.out, arguments.write_baseline)):
        check_place(file)
    try:
        result = _audit(arguments)
        return _report(arguments, result)
    except (InputError, ImportError):
        raise
    except DropkitError as error:  # 1 means findings here
        raise InputError("the audit can run", got=phrase(str(error)), fix="Correct what the message names") from error


def _audit(arguments: argparse.Namespace) -> AuditResult:
    select, ignore = _ids(arguments.select), _ids(arguments.ignore)
    if arguments.static:
        from dropkit.audit.static import audit_source

        return audit_source(arguments.targets, select=select, ignore=ignore, progress=_progress())
    from dropkit.audit.allow import allow, chosen
    from dropkit.audit.audit import audit
    from dropkit.cli.targets import find_inputs, find_target

    if len(arguments.targets) > 1:
        raise InputError("one model is audited at a time", got=phrase(f"{len(arguments.targets)} targets"),
                         fix="Name one model, or add --static to audit source code")
    target = arguments.targets[0]
    model = find_target(target)
    inputs = find_inputs(model, arguments.input, arguments.inputs)
    try:
        result = audit(model, inputs, rates=_rates(arguments, model), select=select, ignore=ignore or (),
                       limit=arguments.limit)
    except DropkitError:
        raise
    except FAILURES as error:  # a user's model may raise anything
        raise InputError(f"{target} can be audited", got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Call the model with these inputs to see where it fails") from error
    if not result.coverage.passes and not result.findings:
        why = "; ".join(f"{gap.what}: {gap.why}" for gap in result.coverage.gaps) or "no pass ran"
        raise InputError(f"{target} runs in one mode at least", got=phrase(why), fix="Check --input, or give --inputs")
    found = allow(result)
    kept = tuple(finding for finding in found.findings if chosen(finding.rule, select, ignore))
    return AuditResult(kept, found.coverage, found.allowed, target)


def _report(arguments: argparse.Namespace, result: AuditResult) -> int:
    from dropkit.audit.allow import without_baseline, write_baseline
    from dropkit.audit.reporters import render
    from dropkit.audit.reporters.table import as_table

    if arguments.baseline:
        result = without_baseline(result, arguments.baseline)
    if arguments.write_baseline:
        print(f"Wrote {write_baseline(result, arguments.write_baseline)}: {len(result.findings)} findings", file=sys.stderr)
    colour = arguments.format == "table" and not arguments.out and sys.stdout.isatty()
    text = as_table(result, colour=True) if colour else render(result, arguments.format)
    if arguments.out:
        print(f"Wrote {write_atomically(Path(arguments.out), text + chr(10))}", file=sys.stderr)
    else:
        print(text, file=sys.stderr if arguments.fix else sys.stdout)
    if arguments.fix:
        from dropkit.audit.patch import patch

        sys.stdout.write(patch(result.findings))
    return 0 if arguments.write_baseline or not result.at_least(arguments.fail_level) else 1


def _progress() -> Callable[[int, int], None]:
    """What tells every ten seconds how many files have been read."""
    last = time.monotonic()

    def tell(count: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _PAUSE:
            last = time.monotonic()
            print(f"{count} of {total} files read", file=sys.stderr)

    return tell


def _rates(arguments: argparse.Namespace, model: Any) -> tuple[str, ...] | None:
    """The builder's arguments that are rates; None for those whose names say so."""
    from dropkit.cli.targets_transformers import Configured

    if arguments.rate_arguments is None:
        return model.rates if isinstance(model, Configured) else None
    return tuple(name.strip() for name in arguments.rate_arguments.split(",") if name.strip())


def _ids(given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    found = [part.strip().upper() for text in given for part in text.split(",") if part.strip()]
    for name in found:
        if not _ID.fullmatch(name):
            raise InputError("a rule is named by its id or the id's beginning", got=name,
                             fix="Write DK101, or DK1 for all of its kind")
    return found
