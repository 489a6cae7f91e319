"""``dropkit status``: how far a study is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dropkit.cli.extras import need


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("status", help="how far a study is",
                                 description="Count a study's finished runs, also while it is going on.")
    parser.add_argument("folder", help="the study's folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print each arm's finished seeds, and the verdict if there is one."""
    need("study", "filelock")
    from dropkit.study.ledger import read_progress
    from dropkit.study.result import load_result

    folder = Path(arguments.folder)
    name, plan, done = read_progress(folder)
    total, finished = sum(map(len, plan.values())), sum((arm, seed) in done for arm in plan for seed in plan[arm])
    print(f"{name}: {finished} of {total} runs finished")
    for arm, seeds in plan.items():
        print(f"  {arm:<12} " + " ".join("x" if (arm, seed) in done else "." for seed in seeds))
    if finished < total:
        print("Run the same `dropkit study` command to go on.")
    elif (folder / "result.json").exists():
        print(load_result(folder).verdict.sentence)
    return 0
