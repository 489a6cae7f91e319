"""``dropkit explain``: what a variant is, when to use it, and a picture of its mask; or what a rule of the audit finds."""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import Any

from dropkit.catalog import catalog
from dropkit.core.errors import InputError
from dropkit.core.files import write_atomically
from dropkit.explain.picture import draw_svg, draw_text, mask_of
from dropkit.explain.sections import SHOWN, plain, sections
from dropkit.variants.claims import Variant

_RATE = 0.4
_RULE = re.compile(r"dk\d+", re.IGNORECASE)


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("explain", help="what a variant is and when to use it, or what a rule of the audit finds",
                                 description="Explain a variant: maths, use, rates, evidence, and a picture of its mask. Or a "
                                             "rule of the audit: why, how to mend it, an example, sources.")
    parser.add_argument("name", help="a variant's name as `dropkit list` shows it, its class, or a rule's id such as DK201")
    parser.add_argument("--svg", metavar="FILE", help="write the picture of the mask to an SVG file, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a variant's explanation, or a rule's."""
    if _RULE.fullmatch(arguments.name):
        from dropkit.audit.pages import find_rule, rule_text  # the rules are loaded for those who ask for one

        print(rule_text(find_rule(arguments.name)))
        return 0
    row = _find(arguments.name)
    grids = mask_of(row, _RATE)
    print(_words(row))
    print(f"\nOne pass over four examples{_at_rate(row)}; a dot is dropped, darker is larger\n\n{_indent(draw_text(grids))}")
    if arguments.svg:
        write_atomically(Path(arguments.svg), draw_svg(row.module.__name__, grids))
        print(f"\nWrote {arguments.svg}")
    return 0


def _words(row: Variant) -> str:
    found = sections(row.function)
    parts = [f"{row.module.__name__}  (dropkit.nn.{row.module.__name__}, dropkit.functional.{row.function.__name__})",
             _indent(plain(found["Summary"])), _indent(plain(found["Maths"]))]
    for title in SHOWN:
        parts += [title, _indent(plain(found.get(title, row.reference)))]
    return "\n\n".join(parts)


def _at_rate(row: Variant) -> str:
    return "" if row.claims.rate is None else f" at {row.claims.rate} = {_RATE}"


def _find(name: str) -> Variant:
    wanted = name.replace("_", "").replace("-", "").lower()
    for row in catalog():
        if wanted == row.module.__name__.lower():
            return row
    names = [row.name for row in catalog()]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    raise InputError("a variant to explain is one of the catalog's", got=name,
                     fix=f"The nearest are {', '.join(near)}; `dropkit list` shows all" if near else "`dropkit list` shows all")


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
