"""Predictions as a table, one row an example, with how sure the model is; and what they are worth where targets are known."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.inference import scores
from dropkit.inference.result import MCPrediction
from dropkit.report import plots
from dropkit.study import scores as counted

FORMATS = ("csv", "parquet", "json")


def table(found: MCPrediction, y: Tensor | None = None, *, classes: Sequence[str] | None = None, tau: float | None = None,
          level: float = 0.95) -> Any:
    """Predictions as a pandas table, one row an example, in the order of the inputs.

    In classification the columns are ``label``, ``probability`` (of that label), ``p_CLASS`` for each class,
    ``predictive_entropy``, ``expected_entropy`` and ``mutual_information`` in nats, and ``variation_ratio``. In regression they
    are ``mean``, ``epistemic_sd``, with ``tau`` also ``predictive_sd``, and ``lower`` and ``upper``; with several outputs each
    has its number in the name, as in ``mean_0``. A column ``target`` follows where targets are given.

    Args:
        found: the prediction, of classification with outputs (N, K) or regression with outputs (N,) or (N, d).
        y: targets: (N,) labels, or numbers of the means' shape.
        classes: the labels' names. Default: their numbers.
        tau: precision of the noise, in one over the target's unit squared.
        level: of the interval, in (0, 1).

    Raises:
        InputError: for predictions of another shape.
        MissingExtraError: pandas is not installed.

    Example:
        >>> import torch
        >>> import dropkit as dk
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        >>> list(table(dk.mc_predict(model, torch.ones(3, 2), task="regression")).columns)
        ['mean', 'epistemic_sd', 'lower', 'upper']
    """
    columns = _classes(found, classes) if found.task == "classification" else _numbers(found, tau, level)
    if y is not None:
        columns |= _targets(found, y, classes)
    return _pandas().DataFrame({name: values.numpy(force=True) if isinstance(values, Tensor) else values
                                for name, values in columns.items()})


def encoded(frame: Any, kind: str) -> bytes:
    r"""A table as the bytes of a file.

    Args:
        frame: a pandas table.
        kind: ``"csv"``, ``"parquet"`` or ``"json"`` (a list of objects, one a row).

    Raises:
        MissingExtraError: pyarrow is not installed and Parquet is asked for.

    Example:
        >>> encoded(_pandas().DataFrame({"a": [1, 2]}), "csv")
        b'a\n1\n2\n'
    """
    if kind == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n")).encode()
    if kind == "json":
        return (str(frame.to_json(orient="records", double_precision=15)) + "\n").encode()
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


def worth(found: MCPrediction, y: Tensor, *, tau: float | None = None, level: float = 0.95) -> dict[str, float]:
    """Scores of predictions whose targets are known.

    Args:
        found: as in `table`; for the log-likelihood with samples.
        y: as in `table`.
        tau: as in `table`.
        level: as in `table`.

    Returns:
        In classification accuracy, nll (nats), brier and ece (`dropkit.inference.scores`), and aurc of the mutual information
        and wrong labels; in regression rmse, the share of targets inside the interval, and with ``tau`` and samples the test
        log-likelihood.
    """
    if found.task == "classification":
        wrong = (found.labels != y).double()
        bins = counted.reliability(found.mean.double().clamp(min=1e-300).log(), y)
        return {"accuracy": float(1 - wrong.mean()), "nll": scores.nll(found.mean, y), "brier": scores.brier(found.mean, y),
                "ece": counted.ece(bins), "aurc": scores.risk_coverage(found.mutual_information, wrong).area}
    target = y.reshape(found.mean.shape)
    inside = scores.interval_coverage(found.mean, found.predictive_variance(tau).sqrt(), target, (level,))[level]
    said = {"rmse": float((found.mean - target).square().mean().sqrt()), f"inside {100 * level:g} %": inside}
    if tau is not None and found.samples is not None:
        said["log_likelihood"] = scores.test_log_likelihood(found.samples, target, tau)
    return said


def figures(found: MCPrediction, y: Tensor, tau: float | None = None) -> dict[str, Any]:
    """Figures of predictions whose targets are known, by name.

    Args:
        found: as in `table`.
        y: as in `table`.
        tau: as in `table`.
    """
    if found.task == "classification":
        wrong = (found.labels != y).double()
        measures = {"mutual information": found.mutual_information, "predictive entropy": found.predictive_entropy,
                    "1 - largest probability": 1 - found.mean.amax(-1)}
        return {"uncertainty_error": plots.uncertainty_error(found.mutual_information, wrong, name="mutual information, nats"),
                "reliability": plots.reliability(found.mean, y), "risk_coverage": plots.risk_coverage(measures, wrong)}
    target, deviation = y.reshape(found.mean.shape), found.predictive_variance(tau).sqrt()
    error = (found.mean - target).abs()
    return {"uncertainty_error": plots.uncertainty_error(deviation, error, name="standard deviation"),
            "interval_coverage": plots.interval_coverage(found.mean, deviation, target),
            "risk_coverage": plots.risk_coverage({"standard deviation": deviation}, error)}


def _classes(found: MCPrediction, classes: Sequence[str] | None) -> dict[str, Any]:
    if found.mean.dim() != 2 or found.class_dim not in (-1, 1):
        raise InputError("predictions of a table are (N, K), one row an example",
                         got=phrase(f"shape {tuple(found.mean.shape)}"), fix="Use mc_predict for outputs of more dimensions")
    count = found.mean.shape[1]
    names = list(map(str, range(count))) if classes is None else list(classes)
    if len(names) != count:
        raise InputError(f"there is a name for each of {count} classes", got=names, fix="Pass as many names")
    labels: Any = found.labels if classes is None else [names[label] for label in found.labels.tolist()]
    each = {f"p_{name}": found.mean[:, k] for k, name in enumerate(names)}
    return {"label": labels, "probability": found.mean.amax(1), **each,
            "predictive_entropy": found.predictive_entropy, "expected_entropy": found.expected_entropy,
            "mutual_information": found.mutual_information, "variation_ratio": found.variation_ratio}


def _numbers(found: MCPrediction, tau: float | None, level: float) -> dict[str, Any]:
    lower, upper = found.interval(level, tau)
    values = {"mean": found.mean, "epistemic_sd": found.variance.sqrt()}
    if tau is not None:
        values["predictive_sd"] = found.predictive_variance(tau).sqrt()
    return _flat(values | {"lower": lower, "upper": upper})


def _flat(values: dict[str, Tensor]) -> dict[str, Any]:
    """One column a name, or one a name and output where there are several."""
    columns: dict[str, Any] = {}
    for name, tensor in values.items():
        if tensor.dim() == 1 or (tensor.dim() == 2 and tensor.shape[1] == 1):
            columns[name] = tensor.flatten()
        elif tensor.dim() == 2:
            columns |= {f"{name}_{k}": tensor[:, k] for k in range(tensor.shape[1])}
        else:
            raise InputError("predictions of a table are (N,) or (N, d), one row an example",
                             got=phrase(f"shape {tuple(tensor.shape)}"), fix="Use mc_predict for outputs of more dimensions")
    return columns


def _targets(found: MCPrediction, y: Tensor, classes: Sequence[str] | None) -> dict[str, Any]:
    if found.task != "classification":
        return _flat({"target": y.reshape(found.mean.shape)})
    return {"target": y if classes is None else [list(classes)[label] for label in y.tolist()]}


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("pandas", "study") from error
    return pandas
