"""``dropkit status``: how far a study is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dropkit.cli.extras import need


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("status", help="how far a study is",
                                 description="Count the finished runs of a study, or the trials of a tuning, also while it "
                                             "is going on.")
    parser.add_argument("folder", help="the folder of a study or a tuning")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print each arm's finished seeds, and the verdict if there is one."""
    need("study", "filelock")
    from dropkit.study.ledger import read_progress
    from dropkit.study.result import load_result

    folder = Path(arguments.folder)
    if (folder / "tuning.sqlite").exists():
        need("tune", "optuna")
        return _tuning(folder)
    name, plan, done = read_progress(folder)
    total, finished = sum(map(len, plan.values())), sum((arm, seed) in done for arm in plan for seed in plan[arm])
    print(f"{name}: {finished} of {total} runs finished")
    for arm, seeds in plan.items():
        print(f"  {arm:<12} " + " ".join("x" if (arm, seed) in done else "." for seed in seeds))
    if finished < total:
        print("Run the same command to go on.")
    elif (folder / "result.json").exists():
        print(load_result(folder).verdict.sentence)
    return 0


def _tuning(folder: Path) -> int:
    from dropkit.study.tuning.result import CONFIRM
    from dropkit.study.tuning.search import progress_of

    done, best = progress_of(folder)
    print(f"tuning: {done} trials finished" + ("" if best is None else f", best {best[1]:.4g} on validation at {best[0]}"))
    if not (folder / CONFIRM).exists():
        print("Run the same `dropkit tune` command to go on.")
        return 0
    return run(argparse.Namespace(folder=folder / CONFIRM))
