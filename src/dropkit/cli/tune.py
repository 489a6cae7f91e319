"""``dropkit tune``: which rates are best, and are they better?"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dropkit.cli.extras import need
from dropkit.cli.study import add_recipe, recipe_of


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "tune", help="find good rates on validation data, and confirm them on fresh seeds and test data",
        description="Tune dropout rates by Optuna on validation data, then compare the tuned rates with none and intended ones "
                    "on fresh seeds and a test part that the tuning has not seen. Running the same command again goes on.")
    parser.add_argument("experiment", help="as for `dropkit study`")
    parser.add_argument("--sites", choices=("all", "per-group", "per-site"), default="per-group",
                        help="one rate for all sites, for each group of like sites, or for each site (default: per-group)")
    parser.add_argument("--trials", type=int, default=30, help="settings to try (default: 30)")
    parser.add_argument("--seeds", type=int, default=3, help="tuning seeds, averaged for each setting (default: 3)")
    parser.add_argument("--confirm-seeds", type=int, default=8, help="fresh seeds of the confirming study (default: 8)")
    parser.add_argument("--low", type=float, default=0.0, help="smallest rate (default: 0)")
    parser.add_argument("--high", type=float, default=0.8, help="largest rate (default: 0.8)")
    parser.add_argument("--prune", type=float, help="significance level at which a bad setting is stopped early; 0 stops none "
                                                    "(default: 0.1, or 0.3 with fewer than five seeds)")
    parser.add_argument("--seed", type=int, default=0, help="the sampler's seed (default: 0)")
    parser.add_argument("--jobs", type=int, help="worker processes of one thread each; with 1 everything repeats to the bit "
                                                  "(default: the cores)")
    parser.add_argument("--out", help="output folder (default: runs/NAME-tune)")
    add_recipe(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tune or go on tuning, confirm, print the rates and the verdict, write the report."""
    need("study", "scipy", "loky", "sklearn", "pandas", "cloudpickle", "filelock")
    need("tune", "optuna")
    need("report", "plotly", "jinja2")
    need("cli", "rich")
    from dropkit.cli.live import observer
    from dropkit.study.tuning.driver import Options, run_tune
    from dropkit.study.tuning.progress import TrialLines

    names = ("sites", "trials", "seeds", "confirm_seeds", "low", "high", "seed", "prune")
    options, listener = Options(**{name: getattr(arguments, name) for name in names}), TrialLines()
    with observer() as watching:
        try:
            result = run_tune((arguments.experiment, recipe_of(arguments)), options, out=arguments.out, jobs=arguments.jobs,
                              listener=listener, observer=watching)
        except KeyboardInterrupt:
            watching.close()
            print(f"Stopped: {listener.done} of {listener.total} trials are finished and kept. "
                  "Run the same command to go on.", file=sys.stderr)
            return 130
    _print(result)
    return 0


def _print(result: Any) -> None:
    from dropkit.cli.summary import print_summary
    from dropkit.study.tuning.progress import words
    from dropkit.study.wording import count

    tuning = result.tuning
    print(f"Best of {count(len(tuning.trials), 'trial')}: {words(tuning.chosen.rates)} "
          f"(validation {tuning.metric} {tuning.chosen.value:.4g} over {count(len(tuning.seeds), 'seed')})")
    for one in tuning.importances:
        print(f"  importance of {one.label}: {one.mean:.2f} ± {one.sd:.2f}")
    if result.tuned_arm != "tuned" and result.study is not None:
        print(f"These are the rates of arm {result.tuned_arm!r}.")
    if result.study is None:
        print("Neither the model nor the tuned rates drop anything: there is nothing to confirm.")
        return
    print("Confirmed on fresh seeds and unseen test data:")
    print_summary(result.study, result.report())
