"""``dropkit study``: does dropout help?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dropkit.cli.extras import need

_FIELDS = ("data", "rate", "task", "target", "loss", "metric", "optimizer", "lr", "weight_decay", "epochs", "batch_size",
           "margin", "name")


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "study", help="train with and without dropout, and judge the difference",
        description="Train none, reduced and intended rates with paired seeds and say whether dropout helps. "
                    "Running the same command again resumes.")
    parser.add_argument("experiment", help="digits, breast_cancer, wine, iris, diabetes; a CSV, Parquet, NPZ or IDX path; "
                                           "an experiment's .yaml file; module:object or file.py:object")
    parser.add_argument("--seeds", type=int, default=8, help="paired seeds; under 5 give a leaning only (default: 8)")
    parser.add_argument("--arms", metavar="LIST", help="what is compared, parted by commas: none, reduced, intended, rate=0.3, "
                        "weight_decay=0.001, early_stopping=5, batch_norm, noise=0.1, shift=2, flip, augment, max_norm=3, "
                        "label_smoothing=0.1, members=4, variant=NAME, schedule=TEXT, joined by + where they act together; "
                        "and rates, leave-one-out, classic, factorial (default: none,reduced,intended)")
    parser.add_argument("--jobs", type=int, help="worker processes of one thread each (default: the cores)")
    parser.add_argument("--fused", action=argparse.BooleanOptionalAction, default="auto",
                        help="train up to 6 runs as one batch (default: where they agree with single runs and it is faster)")
    parser.add_argument("--out", help="output folder (default: runs/NAME)")
    parser.add_argument("--tensorboard", nargs="?", const=True, default=False, metavar="FOLDER",
                        help="write each finished run for TensorBoard (default folder: tensorboard in the output folder)")
    place = parser.add_argument_group("where runs are trained", "the numbers do not depend on it")
    place.add_argument("--engine", choices=("processes", "ray", "serial"), default="processes",
                       help="worker processes here, tasks on a Ray cluster, or one after the other in this process")
    place.add_argument("--address", help="the Ray cluster's address, or auto (default: start Ray on this machine)")
    place.add_argument("--cpus-per-run", type=float, default=1.0, help="cores that Ray reserves for a run (default: 1)")
    place.add_argument("--checkpoint-every", type=float, default=5.0, metavar="SECONDS",
                       help="seconds between two checkpoints of a run (default: 5)")
    add_recipe(parser)
    parser.set_defaults(run=run)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace fields of the experiment."""
    recipe = parser.add_argument_group("the experiment", "replace what the experiment itself says")
    recipe.add_argument("--data", help="embedded set or path, for a model builder")
    recipe.add_argument("--target", help="the table's column to predict (default: the last)")
    recipe.add_argument("--task", choices=("classification", "regression", "sequence"))
    recipe.add_argument("--rate", type=float, help="one intended rate for every site, in [0, 1]")
    recipe.add_argument("--epochs", type=int)
    recipe.add_argument("--batch-size", type=int)
    recipe.add_argument("--optimizer", choices=("adam", "adamw", "sgd", "rmsprop"))
    recipe.add_argument("--lr", type=float)
    recipe.add_argument("--weight-decay", type=float)
    recipe.add_argument("--loss", choices=("cross_entropy", "mse", "l1", "huber"))
    recipe.add_argument("--metric", choices=("accuracy", "nll", "perplexity", "rmse", "mae"))
    recipe.add_argument("--margin", type=float, help="smallest difference of the metric worth having")
    recipe.add_argument("--name", help="what the report calls the experiment")


def recipe_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the experiment that were given on the command line."""
    return {name: getattr(arguments, name) for name in _FIELDS if getattr(arguments, name) is not None}


def run(arguments: argparse.Namespace) -> int:
    """Run or resume the study, print the verdict, write the report."""
    need("study", "scipy", "loky", "sklearn", "pandas", "cloudpickle", "filelock")
    need("report", "plotly", "jinja2")
    need("cli", "rich")
    from dropkit.cli.live import observer
    from dropkit.cli.summary import print_summary
    from dropkit.report.page import write_report
    from dropkit.study.driver import run_study
    from dropkit.study.engines.choice import Running

    running = Running(engine=arguments.engine, jobs=arguments.jobs, address=arguments.address,
                      cpus_per_run=arguments.cpus_per_run, checkpoint_every=arguments.checkpoint_every,
                      fused=arguments.fused)
    with observer() as watching:
        try:
            result = run_study((arguments.experiment, recipe_of(arguments)), arms=arguments.arms, seeds=arguments.seeds,
                               out=arguments.out, observer=watching, running=running, tensorboard=arguments.tensorboard)
        except KeyboardInterrupt:
            watching.close()
            print(f"Stopped: {watching.finished} of {watching.total} runs are finished and kept. "
                  "Run the same command to go on." if watching.total else "Stopped before the first run.", file=sys.stderr)
            return 130
    page = write_report(result, Path(result.out) / "report.html")
    print_summary(result, page)
    return 0
