"""Scores of predictive distributions: likelihood, calibration, and whether uncertainty tells where a model is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.core.levels import check_level, check_precision


class RiskCoverage(NamedTuple):
    """How the mean loss falls when the least certain examples are left to others.

    Args:
        coverage: shares of examples that are answered, 1/N, 2/N ... 1.
        risk: the mean loss over those, the most certain ones.
        area: under the curve, the mean of ``risk``: AURC.
    """

    coverage: Tensor
    risk: Tensor
    area: float


def nll(probabilities: Any, y: Any) -> float:
    """Return the mean negative log-likelihood of labels, in nats an example; infinite where a label has probability 0.

    Args:
        probabilities: (N, K), rows that sum to 1, such as means over passes.
        y: (N,) labels, whole numbers in [0, K).

    Raises:
        InputError: a shape, a type, a label or a row's sum is out of range, or there are no examples.

    Example:
        >>> round(nll([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 4)
        0.4904
    """
    p, labels = check_classes(probabilities, y)
    return float(-p.gather(1, labels[:, None]).log().mean())


def brier(probabilities: Any, y: Any) -> float:
    """Return the Brier score: squared distance of the probabilities from the one-hot label, a mean over examples, in [0, 2].

    Args:
        probabilities: (N, K), rows that sum to 1.
        y: (N,) labels, whole numbers in [0, K).

    Raises:
        InputError: as in `nll`.

    Example:
        >>> brier([[0.5, 0.5]], [0])
        0.5

    References:
        Brier: "Verification of forecasts expressed in terms of probability", Monthly Weather Review, 1950.
    """
    p, labels = check_classes(probabilities, y)
    return float((p - torch.nn.functional.one_hot(labels, p.shape[1])).square().sum(1).mean())


def calibration_error(probabilities: Any, y: Any, bins: int = 15, *, kind: str = "top", norm: str = "l1") -> float:
    """Return an expected calibration error: the distance of accuracy from confidence over bins, weighted by their counts.

    Args:
        probabilities: (N, K), rows that sum to 1.
        y: (N,) labels, whole numbers in [0, K).
        bins: how many.
        kind: ``"top"`` looks at the largest probability in bins of equal width, by torchmetrics; ``"adaptive"`` at the largest
            in bins that hold equally many; ``"classwise"`` at each class's probability, and averages over classes.
        norm: ``"l1"`` for the mean of distances, ``"l2"`` for the root of the mean square, ``"max"`` for the largest.

    Raises:
        InputError: as in `nll`, or for an unknown kind or norm or too few bins.
        MissingExtraError: when torchmetrics is not installed, except for ``"adaptive"``.

    Example:
        >>> round(calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1], kind="adaptive", bins=1), 4)
        0.4

    References:
        Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015. Nixon et al.:
        "Measuring calibration in deep learning", 2019. Kull et al.: "Beyond temperature scaling", NeurIPS 2019.
    """
    p, labels = check_classes(probabilities, y)
    if kind not in ("top", "adaptive", "classwise") or norm not in ("l1", "l2", "max"):
        raise InputError('kind is "top", "adaptive" or "classwise" and norm "l1", "l2" or "max"', got=(kind, norm),
                         fix="Pass one of these")
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InputError("there is at least one bin", got=bins, fix="Pass bins=15")
    if kind == "adaptive":
        confidence, guess = p.max(1)
        return _equal_counts(confidence, (guess == labels).double(), bins, norm)
    metrics = _torchmetrics()
    if kind == "top":
        return float(metrics.multiclass_calibration_error(p, labels, num_classes=p.shape[1], n_bins=bins, norm=norm))
    each = [metrics.binary_calibration_error(column.contiguous(), (labels == k).long(), n_bins=bins, norm=norm)
            for k, column in enumerate(p.T)]
    return float(torch.stack(each).mean())


def ood_auroc(inside: Any, outside: Any) -> float:
    """Return the probability that an example from elsewhere is less certain than one of the known kind, ties counting half.

    Args:
        inside: uncertainties of in-distribution examples, such as the mutual information; higher is less certain.
        outside: those of out-of-distribution examples.

    Raises:
        InputError: for scores that are no finite numbers, or none.
        MissingExtraError: when torchmetrics is not installed.

    Example:
        >>> ood_auroc([0.1, 0.2], [0.2, 0.3])
        0.875
    """
    scores, targets = _check_two(inside, outside)
    order = torch.unique(scores, return_inverse=True)[1]  # ranks: torchmetrics squeezes scores outside [0, 1]
    return float(_torchmetrics().binary_auroc(order.double() / max(1, len(scores)), targets))


def fpr_at_tpr(inside: Any, outside: Any, level: float = 0.95) -> float:
    """Return the share of in-distribution examples that are flagged when ``level`` of the others are: FPR95.

    Examples are flagged whose uncertainty is at or above a threshold, the highest one at which at least ``level`` of the
    out-of-distribution examples are.

    Args:
        inside: uncertainties of in-distribution examples; higher is less certain.
        outside: those of out-of-distribution examples.
        level: in (0, 1]. Default: 0.95.

    Raises:
        InputError: for scores that are no finite numbers, or none, or a level out of range.

    Example:
        >>> fpr_at_tpr([0.1, 0.2, 0.5], [0.3, 0.4], level=1.0)
        0.3333333333333333
    """
    level = check_level(level, one=True)
    scores, targets = _check_two(inside, outside)
    others = scores[targets == 1].sort(descending=True).values
    needed = math.ceil(level * len(others) - 1e-9)
    known = scores[targets == 0]
    return int((known >= others[needed - 1]).sum()) / len(known)


def risk_coverage(uncertainty: Any, loss: Any) -> RiskCoverage:
    """Return how the mean loss depends on the share of examples, the most certain first, that a model answers.

    Examples of equal uncertainty count with their mean loss, so that their order does not matter.

    Args:
        uncertainty: (N,); higher is less certain.
        loss: (N,), such as 1 for a wrong label and 0 for a right one.

    Raises:
        InputError: for numbers that are not finite, other shapes, or no examples.

    Example:
        >>> risk_coverage([0.1, 0.9, 0.5], [0.0, 1.0, 0.0])
        RiskCoverage(coverage=tensor([0.3333, 0.6667, 1.0000], dtype=torch.float64), risk=tensor([0.0000, 0.0000, 0.3333], dtype=torch.float64), area=0.1111111111111111)

    References:
        Geifman, El-Yaniv: "Selective classification for deep neural networks", NeurIPS 2017.
    """  # noqa: E501
    u, losses = _numbers(uncertainty, "uncertainty"), _numbers(loss, "loss")
    if u.shape != losses.shape:
        raise InputError("there is one loss an uncertainty", got=phrase(f"{len(losses)} for {len(u)}"), fix="Pass as many")
    values, ties, counts = torch.unique(u, return_inverse=True, return_counts=True)
    means = torch.zeros_like(values).index_add_(0, ties, losses) / counts
    coverage = torch.arange(1, len(u) + 1, dtype=torch.float64)
    risk = means.repeat_interleave(counts).cumsum(0) / coverage
    return RiskCoverage(coverage / len(u), risk, float(risk.mean()))


def interval_coverage(mean: Any, std: Any, y: Any, levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)) -> dict[float, float]:
    """Return for each level which share of targets lies inside the central normal interval of that level.

    A calibrated regression has each share near its level; the interval is ``mean +- std Phi^-1((1 + level) / 2)``.

    Args:
        mean: predictions.
        std: their standard deviations, of the same shape, at least 0; of what is predicted, noise included.
        y: the targets, of the same shape.
        levels: in (0, 1).

    Raises:
        InputError: for other shapes, numbers that are not finite, a negative deviation, or a level out of range.

    Example:
        >>> interval_coverage([0.0, 0.0], [1.0, 1.0], [0.5, 1.5], levels=(0.5, 0.9))
        {0.5: 0.5, 0.9: 1.0}

    References:
        Kuleshov, Fenner, Ermon: "Accurate uncertainties for deep learning using calibrated regression", ICML 2018.
    """
    m, s, target = numbers_of(mean, "mean"), numbers_of(std, "std"), numbers_of(y, "y")
    if not m.shape == s.shape == target.shape or m.numel() == 0 or bool((s < 0).any()):
        raise InputError("means, deviations of at least 0 and targets have one shape, and are not empty", got=phrase(
            f"shapes {tuple(m.shape)}, {tuple(s.shape)} and {tuple(target.shape)}"), fix="Reshape one, or expand the deviation")
    if not isinstance(levels, Iterable):
        raise InputError("levels are several probabilities in (0, 1)", got=levels, fix="Pass a list such as [0.5, 0.9]")
    found = {}
    for level in levels:
        width = s * torch.special.ndtri(torch.tensor((1 + check_level(level)) / 2, dtype=torch.float64))
        found[level] = int(((target - m).abs() <= width).sum()) / m.numel()
    return found


def test_log_likelihood(samples: Any, y: Any, tau: float) -> float:
    """Return the mean log-likelihood of targets under a mixture of normal distributions, one a pass.

    ``log p(y) = log (1 / T sum_t N(y; yhat_t, 1 / tau)) = logsumexp_t(-tau |y - yhat_t|^2 / 2) - log T - D / 2 log(2 pi /
    tau)``, with T passes, the precision tau of the noise and D targets an example; a mean over examples, in nats.

    Args:
        samples: (T, N) or (T, N, D), the predictions of T passes, in the unit of the targets.
        y: (N,) or (N, D).
        tau: precision of the noise, above 0, in one over the unit squared.

    Raises:
        InputError: for other shapes, numbers that are not finite, or a precision out of range.

    Example:
        >>> round(test_log_likelihood([[0.0], [0.0]], [0.0], tau=1.0), 4)
        -0.9189

    References:
        Gal, Ghahramani: "Dropout as a Bayesian approximation: representing model uncertainty in deep learning", ICML 2016.
    """
    passes, target = numbers_of(samples, "samples"), numbers_of(y, "y")
    if passes.dim() not in (2, 3) or passes.shape[1:] != target.shape or passes.numel() == 0:
        raise InputError("samples are (T, N) for targets (N,), or (T, N, D) for (N, D), with T and N above 0",
                         got=phrase(f"{tuple(passes.shape)} for {tuple(target.shape)}"), fix="Put the passes first")
    tau = check_precision(tau)
    distance = (target - passes).square()
    distance, outputs = (distance, 1) if distance.dim() == 2 else (distance.sum(-1), target.shape[1])
    each = torch.logsumexp(-0.5 * tau * distance, 0) - math.log(len(passes)) - 0.5 * outputs * math.log(2 * math.pi / tau)
    return float(each.mean())


test_log_likelihood.__test__ = False  # type: ignore[attr-defined]  # pytest takes every name of this form for a test


def _torchmetrics() -> Any:
    try:
        from torchmetrics.functional import classification
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "torchmetrics") from error
    return classification


def _equal_counts(confidence: Tensor, right: Tensor, bins: int, norm: str) -> float:
    order = confidence.argsort(stable=True)
    parts = [part for part in order.tensor_split(bins) if len(part)]
    gaps = torch.stack([(confidence[part].mean() - right[part].mean()).abs() for part in parts])
    weights = torch.tensor([len(part) for part in parts], dtype=torch.float64) / len(order)
    return float(gaps.max() if norm == "max" else (weights * gaps).sum() if norm == "l1" else (weights * gaps**2).sum().sqrt())


def numbers_of(values: Any, name: str) -> Tensor:
    """Finite numbers in float64 on the CPU.

    Args:
        values: a tensor, an array, or nested sequences of numbers.
        name: what the caller calls them.

    Raises:
        InputError: for anything else.

    Example:
        >>> numbers_of([1, 2], "loss")
        tensor([1., 2.], dtype=torch.float64)
    """
    found = _tensor_of(values, name).to(torch.float64)
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{name} holds finite numbers", got=phrase(f"{int((~torch.isfinite(found)).sum())} that are not"),
                         fix="Look where they come from, or leave those examples out")
    return found


def _tensor_of(values: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} holds numbers", got=values, fix="Pass a tensor, an array, or a list of numbers") from error


def _numbers(values: Any, name: str) -> Tensor:
    found = numbers_of(values, name).flatten()
    if len(found) == 0:
        raise InputError("a score needs at least one example", got=phrase(f"an empty {name}"), fix="Pass N >= 1 numbers")
    return found


def _check_two(inside: Any, outside: Any) -> tuple[Tensor, Tensor]:
    known, others = _numbers(inside, "inside"), _numbers(outside, "outside")
    return torch.cat((known, others)), torch.cat((torch.zeros(len(known)), torch.ones(len(others)))).long()


def check_classes(probabilities: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Class probabilities in float64 and labels, on the CPU.

    Args:
        probabilities: (N, K), rows that sum to 1.
        y: (N,) labels, whole numbers in [0, K).

    Raises:
        InputError: a shape, a type, a label or a row's sum is out of range, or there are no examples.
    """
    p, labels = numbers_of(probabilities, "probabilities"), _tensor_of(y, "y")
    if p.dim() != 2 or p.shape[1] < 2 or len(p) == 0:
        raise InputError("probabilities are (N, K) with N >= 1 rows and K >= 2 classes", got=phrase(f"shape {tuple(p.shape)}"),
                         fix="Give a model of two classes two outputs, not one")
    if bool((p < 0).any()) or bool(((p.sum(1) - 1).abs() > 1e-3).any()):
        raise InputError("each row of probabilities sums to 1", got=phrase(f"sums from {float(p.sum(1).min()):.4g} to "
                         f"{float(p.sum(1).max()):.4g}"), fix="Pass softmax(logits), or its mean over passes")
    if labels.shape != p.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels are {len(p)} whole numbers, one a row", got=phrase(f"{labels.dtype} of shape "
                         f"{tuple(labels.shape)}"), fix="Pass y of shape (N,) and type int64")
    if int(labels.min()) < 0 or int(labels.max()) >= p.shape[1]:
        raise InputError(f"labels lie in [0, {p.shape[1]})", got=phrase(f"{int(labels.min())} to {int(labels.max())}"),
                         fix="Number the classes from 0")
    return p, labels.long()
