"""``dropkit schedule``: draw a schedule of rates before it is used."""

from __future__ import annotations

import argparse
import inspect
import shutil
import textwrap
from pathlib import Path
from typing import Any

from dropkit.core.errors import InputError
from dropkit.core.files import write_atomically
from dropkit.schedules.previews import Preview, preview
from dropkit.schedules.text import SCHEDULES, signature


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("schedule", help="draw a schedule of rates",
                                 description="Draw the rates of a schedule over a run, such as \"cosine(0.5, 0.1)\".")
    parser.add_argument("schedule", nargs="?", help="as in Python, without dk.schedules; --list shows all")
    parser.add_argument("--list", action="store_true", help="list the schedules and stop")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the run (default: 1000)")
    parser.add_argument("--svg", metavar="FILE", help="write the picture to an SVG file, too")
    parser.add_argument("--png", metavar="FILE", help="write the picture to a PNG file, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the schedule, or list all."""
    if arguments.list:
        print(_list())
        return 0
    if arguments.schedule is None:
        raise InputError("there is a schedule to draw", got=None, fix='Write one, such as "cosine(0.5, 0.1)"; --list shows all')
    drawn = preview(arguments.schedule, arguments.steps)
    files = {name: drawn.image(kind) for kind in ("svg", "png") if (name := getattr(arguments, kind))}
    width = max(min(shutil.get_terminal_size().columns, 80), 40)
    print(f"{textwrap.fill(repr(drawn.schedule), width)}\n\n{drawn.text(width)}\n\n{_words(drawn)}")
    for name, content in files.items():
        print(f"Wrote {write_atomically(Path(name), content)}")
    return 0


def _words(drawn: Preview) -> str:
    values, last = drawn.values, drawn.steps
    places = sorted({0, last // 2, last})
    lines = [", ".join(f"step {place}: {values[place]:.4g}" for place in places) + f"; mean {sum(values[:-1]) / last:.4g}"]
    jump = drawn.late_jump
    if jump is not None:
        before, after = values[jump - 1:jump + 1]
        lines.append(f"Caution: the rate jumps from {before:.4g} to {after:.4g} at step {jump}, late in the run.\n"
                     "A model has adapted to the noise that it saw; a gradual rise is kinder,\n"
                     "such as late(..., ramp=) or linear.")
    return "\n".join(lines)


def _list() -> str:
    rows = [(signature(kind), (inspect.getdoc(kind) or "").partition("\n")[0]) for kind in SCHEDULES.values()]
    width = max(len(written) for written, _ in rows)
    return "\n".join(f"{written:<{width}}  {summary}" for written, summary in rows)
