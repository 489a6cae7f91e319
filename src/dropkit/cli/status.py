"""``dropkit status``: how far a study is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dropkit.cli.extras import need

Key = tuple[str, int]  # arm and seed


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser("status", help="how far a study is",
                                 description="Show a study's runs, also while it is going on: finished (x), begun (~), "
                                             "failed (!), waiting (.); or count the trials of a tuning.")
    parser.add_argument("folder", help="the folder of a study or a tuning")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print each arm's seeds, what was begun or failed, and the verdict if there is one."""
    need("study", "filelock", "cloudpickle")
    folder = Path(arguments.folder)
    if (folder / "tuning.sqlite").exists():
        need("tune", "optuna")
        return _tuning(folder)
    return _study(folder, "study")


def _study(folder: Path, command: str) -> int:
    from dropkit.study.ledger import read_failures, read_progress
    from dropkit.study.result import load_result

    name, plan, done = read_progress(folder)
    begun, failed = _begun(folder, plan), read_failures(folder)
    total, finished = sum(map(len, plan.values())), sum((arm, seed) in done for arm in plan for seed in plan[arm])
    print(f"{name}: {finished} of {total} runs finished")
    for arm, seeds in plan.items():
        print(f"  {arm:<12} " + " ".join(_sign((arm, seed), done, begun, failed) for seed in seeds))
    for key in [(arm, seed) for arm in plan for seed in plan[arm] if (arm, seed) not in done]:
        if key in begun:
            print(f"  {key[0]}, seed {key[1]}: {begun[key]}")
        if key in failed:
            print(f"  {key[0]}, seed {key[1]}: failed: {failed[key]}")
    if finished < total:
        print(f"Run the same `dropkit {command}` command to go on.")
    elif (folder / "result.json").exists():
        print(load_result(folder).verdict.sentence)
    return 0


def _tuning(folder: Path) -> int:
    from dropkit.study.tuning.result import CONFIRM
    from dropkit.study.tuning.search import progress_of
    from dropkit.study.wording import count

    done, best = progress_of(folder)
    top = "" if best is None else f", best {best[1]:.4g} on validation at {best[0]}"
    print(f"tuning: {count(done, 'trial')} finished{top}")
    if not (folder / CONFIRM).exists():
        print("Run the same `dropkit tune` command to go on.")
        return 0
    return _study(folder / CONFIRM, "tune")


def _begun(folder: Path, plan: dict[str, list[int]]) -> dict[Key, str]:
    """Return how far runs in hand are, by what they report, and stopped ones, by their checkpoints."""
    from dropkit.study.checkpoint import marks
    from dropkit.study.worker import last_report

    found = {(mark.arm, mark.seed): f"epoch {mark.epoch}, step {mark.step} in its checkpoint" for mark in marks(folder)}
    for index, (arm, seeds) in enumerate(plan.items()):
        for seed in seeds:
            report = last_report(folder, index, seed)
            if report is not None:
                found[arm, seed] = f"epoch {report[0]} reached"
    return found


def _sign(key: Key, done: set[Key], begun: dict[Key, str], failed: dict[Key, str]) -> str:
    return "x" if key in done else "~" if key in begun else "!" if key in failed else "."
