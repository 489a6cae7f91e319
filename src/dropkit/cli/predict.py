"""``dropkit predict``: a table of predictions with how sure the model is."""

from __future__ import annotations

import argparse
import io
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from dropkit.cli.extras import need
from dropkit.core.errors import FAILURES, DropkitError, InputError, phrase
from dropkit.core.files import check_place, write_atomically
from dropkit.core.seeds import check_seed

_FORMATS = ("csv", "parquet", "json")


def add(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "predict", help="predict with Monte-Carlo dropout and write a table with uncertainty",
        description="Run a trained model many times with its dropout on, and write a row for each example: the prediction, and "
                    "how sure the model is of it.")
    parser.add_argument("model", help="module:object or file.py:object; a function that returns the model, or the model itself")
    parser.add_argument("--weights", metavar="FILE", help="a state_dict, or a checkpoint that holds one, to load first")
    data = parser.add_argument_group("the examples")
    data.add_argument("--data", required=True, help="a CSV, Parquet, NPY, NPZ or IDX path, or an embedded set such as digits")
    data.add_argument("--target", metavar="COLUMN", help="the table's column that is no feature; predictions are then scored")
    data.add_argument("--part", choices=("train", "val", "test"), help="of data that has several (default: test, if there)")
    data.add_argument("--like", metavar="DATA", help="the training data: features are standardised by its statistics, and a "
                                                     "regression's predictions put back into its targets' unit")
    data.add_argument("--batch-size", type=int, default=256)
    how = parser.add_argument_group("the passes")
    how.add_argument("--task", choices=("classification", "regression"), help="default: by the targets")
    how.add_argument("--passes", type=int, default=50, help="default: 50")
    how.add_argument("--seed", type=int, default=0, help="of the masks, and of weights that the builder draws (default: 0)")
    how.add_argument("--where", default="*", help="a glob of site names, or a kind; others do not act (default: all)")
    how.add_argument("--rate", action="append", default=[], metavar="[SITE=]RATE",
                     help="of all sites that act, or of those that a name or glob chooses; repeatable (default: their own)")
    how.add_argument("--memory", type=float, default=64, metavar="MIB", help="that passes run at once may take (default: 64)")
    how.add_argument("--tau", type=float, help="precision of the noise of a regression, one over its variance")
    how.add_argument("--level", type=float, default=0.95, help="of the interval of a regression (default: 0.95)")
    out = parser.add_argument_group("the result")
    out.add_argument("--out", default="-", metavar="FILE", help="a .csv, .parquet or .json file (default: CSV to the output)")
    out.add_argument("--format", choices=_FORMATS, help="default: by the file's name")
    out.add_argument("--samples", metavar="FILE", help="write every pass's outputs to a .npy file, passes first")
    out.add_argument("--plots", metavar="FOLDER", help="write figures of uncertainty against error; needs targets")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict, write the table, and score it where there are targets."""
    need("study", "pandas", "sklearn")
    kind = _format(arguments)
    if kind == "parquet":
        need("parquet", "pyarrow")
    if arguments.plots:
        need("report", "plotly", "scipy")
    _check(arguments)
    from dropkit.report import predictions
    from dropkit.study.unseen import unseen

    examples, scale = unseen(arguments.data, arguments.target, arguments.part), _scale(arguments)
    task = arguments.task or _task(examples.y, scale)
    examples = examples if scale is None else scale.of(examples)
    if arguments.plots and examples.y is None:
        raise InputError("figures of errors need targets", got=phrase("--plots without targets"), fix="Pass --target COLUMN")
    model, drawn = _built(arguments)
    found = _predicted(arguments, model, examples.x, task, _back(scale, task))
    y = _targets(examples, found, task)
    classes = examples.classes if task == "classification" else None
    frame = predictions.table(found, y, classes=classes, tau=arguments.tau, level=arguments.level)
    _write(arguments.out, predictions.encoded(frame, kind))
    if arguments.samples:
        _write_samples(arguments.samples, found.samples)
    if arguments.plots and y is not None:
        _draw(arguments, predictions.figures(found, y, arguments.tau))
    said = f"{len(frame):,} examples, {len(found.passes)} passes, {len(found.sites)} sites" + (
        "" if arguments.out == "-" else f": wrote {arguments.out}")
    print(said, file=sys.stderr)
    if drawn and not arguments.weights:
        print(f"dropkit predict: note: {arguments.model} draws weights by --seed and there are no --weights: unless it loads "
              "trained ones itself, this model is untrained", file=sys.stderr)
    if y is not None:
        scored = predictions.worth(found, y, tau=arguments.tau, level=arguments.level)
        print(", ".join(f"{name} {value:.4g}" for name, value in scored.items()), file=sys.stderr)
    return 0


def _predicted(arguments: argparse.Namespace, model: nn.Module, x: Tensor, task: str, outputs: Any) -> Any:
    from dropkit.inference.predict import mc_predict
    from dropkit.surgery.calls import call_model, undisturbed

    try:
        with undisturbed(model), torch.no_grad():
            call_model(model.eval(), x[:1])  # an error that has nothing to do with dropout is told as such
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            found = mc_predict(model, _Batches(x, arguments.batch_size), arguments.passes, seed=arguments.seed,
                               where=arguments.where, rates=_rates(arguments.rate), task=task, outputs=outputs,
                               memory=int(arguments.memory * 2**20), progress=sys.stderr.isatty(),
                               samples=bool(arguments.samples) or (task == "regression" and arguments.tau is not None))
        for warning in caught:
            print(f"dropkit predict: note: {warning.message}", file=sys.stderr)
        return found
    except DropkitError:
        raise
    except FAILURES as error:  # the user's model: what it says is what helps
        raise InputError(f"the model runs on the data, whose examples have shape {tuple(x.shape[1:])}",
                         got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Name the target column by --target if it is among the features, or reshape them") from error


def _rates(texts: list[str]) -> float | dict[str, float] | None:
    """What ``--rate`` tells: one number for all, or numbers by site."""
    rates: dict[str, float] = {}
    for text in texts:
        site, sign, number = text.rpartition("=")
        try:
            if sign and not site.strip():
                raise ValueError("a site without a name")
            rates[site] = float(number)
        except ValueError:
            raise InputError("a rate is a number, or SITE=NUMBER", got=text,
                             fix="Pass --rate 0.1, or --rate 'head.*=0.1'") from None
    if "" in rates and len(texts) > 1:
        raise InputError("one rate for all sites stands alone", got=" ".join(f"--rate {text}" for text in texts),
                         fix="Name the sites of each rate, as in --rate 'head.*=0.1'")
    return rates.get("", rates or None)


class _Batches:
    """The examples in turn; sized, so that a bar can tell how many are left."""

    def __init__(self, x: Tensor, size: int) -> None:
        self._parts = torch.split(x, size)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Any:
        return iter(self._parts)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.batch_size < 1:
        raise InputError("a batch holds at least one example", got=arguments.batch_size, fix="Pass --batch-size 256")
    if not 0 < arguments.level < 1:
        raise InputError("level is a probability in (0, 1)", got=arguments.level, fix="Pass --level 0.95")
    if arguments.tau is not None and not arguments.tau > 0:
        raise InputError("tau is a precision above 0", got=arguments.tau, fix="Pass one over the variance of the noise")
    if not 0 < arguments.memory < 2**40:
        raise InputError("memory is a number of MiB above 0", got=arguments.memory, fix="Pass --memory 64")
    if arguments.samples and Path(arguments.samples).suffix.lower() != ".npy":
        raise InputError("samples go into a .npy file", got=arguments.samples, fix="Name one, as in --samples passes.npy")
    for file in (arguments.out, arguments.samples or "-"):
        if file != "-":
            check_place(file)
    if arguments.plots and Path(arguments.plots).exists() and not Path(arguments.plots).is_dir():
        raise InputError("figures go into a folder", got=arguments.plots, fix="Name a folder, or one that is to be made")


def _format(arguments: argparse.Namespace) -> str:
    if arguments.format:
        return str(arguments.format)
    kind = "csv" if arguments.out == "-" else Path(arguments.out).suffix.lower().removeprefix(".")
    if kind not in _FORMATS:
        raise InputError("the result is a .csv, .parquet or .json file", got=arguments.out,
                         fix="Name one, or tell the format by --format")
    return kind


def _scale(arguments: argparse.Namespace) -> Any:
    from dropkit.study.unseen import scale_like

    return scale_like(arguments.like, arguments.target, arguments.task) if arguments.like else None


def _task(y: Any, scale: Any) -> str:
    if scale is not None:
        return "classification" if scale.y_mean is None else "regression"
    if y is None:
        raise InputError("without targets the task is told", got=phrase("neither --target nor --task"),
                         fix="Pass --task classification (outputs are logits) or --task regression")
    return "regression" if y.dtype.kind == "f" else "classification"


def _built(arguments: argparse.Namespace) -> tuple[nn.Module, bool]:
    """The model, drawn by the seed so that it is the same one again, and whether anything was drawn."""
    number = check_seed(arguments.seed)
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number % (1 << 32))
    before = torch.get_rng_state()
    model = _model(arguments)
    return model, not torch.equal(before, torch.get_rng_state())


def _model(arguments: argparse.Namespace) -> nn.Module:
    from dropkit.inference.weights import load_weights
    from dropkit.study.objects import find_object

    if ":" not in arguments.model:
        raise InputError("a model is named as module:object or file.py:object", got=arguments.model,
                         fix="Name the file and the function that builds it, as in net.py:build")
    found = find_object(arguments.model)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise InputError(f"{arguments.model} is a model or a function that returns one", got=phrase(type(found).__name__),
                             fix="Name such an object")
        try:
            found = found()
        except FAILURES as error:
            raise InputError(f"{arguments.model} can be called with no arguments",
                             got=phrase(f"{type(error).__name__}: {error}"),
                             fix="Give its arguments defaults, or correct the function") from error
    if not isinstance(found, nn.Module):
        raise InputError(f"{arguments.model} returns a torch.nn.Module", got=phrase(type(found).__name__),
                         fix="Return the model")
    return load_weights(found, arguments.weights) if arguments.weights else found


def _back(scale: Any, task: str) -> Any:
    """What puts a regression's outputs back into the targets' unit."""
    if scale is None or scale.y_mean is None or task != "regression":
        return None

    def put_back(output: Any) -> Tensor:
        from dropkit.inference.outputs import Picker

        picked = Picker(None)(output)
        mean, std = (value.to(picked.dtype) for value in (scale.y_mean, scale.y_std))
        unscaled: Tensor = picked * std.squeeze() + mean.squeeze()
        return unscaled

    return put_back


def _targets(examples: Any, found: Any, task: str) -> Tensor | None:
    from dropkit.study.unseen import labels_of

    if examples.y is None:
        return None
    if task == "classification":
        return labels_of(examples.y, found.mean.shape[-1], examples.classes)
    if examples.y.dtype.kind not in "biuf" or examples.y.size != found.mean.numel():
        raise InputError("targets of a regression are numbers, one an output",
                         got=phrase(f"{examples.y.dtype} of shape {examples.y.shape} for outputs {tuple(found.mean.shape)}"),
                         fix="Name another column by --target, or leave it out")
    return torch.from_numpy(examples.y.astype("float64")).reshape(found.mean.shape)


def _draw(arguments: argparse.Namespace, figures: dict[str, Any]) -> None:
    folder = Path(arguments.plots)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_atomically(folder / f"{name}.html", figure.to_html(include_plotlyjs=True))


def _write_samples(file: str, samples: Tensor) -> None:
    content = io.BytesIO()
    numpy.save(content, samples.numpy(force=True))
    write_atomically(file, content.getvalue())


def _write(out: str, content: bytes) -> None:
    if out == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        write_atomically(out, content)
