"""What is measured inside a network while it trains, besides its scores.

Everything is read on a fixed subset of the seed's training examples, the same in every arm, on the network as it is after an
epoch. A *layer* is a module that holds parameters, by its path; *units* are what a weight layer reads: the last dimension of a
linear or recurrent layer's input, the channels of a convolution's. Only inputs that trained parameters have made are looked at,
so a network's own inputs are not. A value that is not finite is None.

In training mode, with masks of the instruments' own, on four batches of the experiment's size, 32 at most:

``gradient_norm`` {layer}
    Euclidean norm of the mean gradient of the loss over the batches.
``no_gradient`` {layer}
    Share of a weight layer's units (rows of its matrices, embeddings left out) whose gradient was zero in every pass.
``data_noise``, ``mask_noise``
    Variance of a batch's gradient, summed over the parameters, as a ratio to the squared norm of the mean gradient: over
    batches with one mask key, and over mask keys on one batch. The mean of so few batches is noisy itself, which keeps the
    ratios below about 4 for batches and keys that have nothing in common (cf. *gradient noise scale*: McCandlish et al., "An
    Empirical Model of Large-Batch Training", 2018; for masks: Liu et al., "Dropout Reduces Underfitting", 2023).
``output_zeros``
    Share of the outputs, zeros in evaluation left out, that are exactly zero in training: a site on the output. None where no
    output is negative, since a ReLU makes zeros of its own.

In evaluation mode, on up to 128 examples:

``dead`` {layer}
    Share of the units that the layer reads which are zero for every example.
``correlation`` {layer}
    Co-adaptation: mean absolute correlation between two units that the layer reads, in [0, 1]. Units without correlation
    show about 0.8 / sqrt(128) = 0.07 (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting", 2014, on co-adaptation).
``effective_rank`` {layer}
    Participation ratio (Σλ)² / Σλ² of the eigenvalues λ of that correlation matrix: 1 if all units move as one, their number
    if they are uncorrelated. At most 256 units and 256 values of each are looked at, which bounds it.
``ablation_25``, ``ablation_50``, ``ablation_75`` {layer}
    Rise of the loss when that share of the units which the layer reads, a random choice that stays the same, is zeroed.
``evaluation_noise``
    Root mean square change of the outputs from one evaluation to the next, as a share of their own: above 0 something random
    is at work in evaluation.
``variance_shift`` {layer}
    For each BatchNorm the variance of its input in training over that in evaluation, the median over channels: dropout before
    it makes it leave 1 (Li et al., "Understanding the Disharmony between Dropout and Batch Normalization by Variance Shift",
    2019).

From the history, once a run has ended:

``early_slope``
    Share of the first epoch's training loss (evaluation mode) by which it falls an epoch, over the first tenth of the epochs,
    two at least.

Co-adaptation and ablation are read at up to four layers, evenly spread over the depth. Of what a run costs, the share that
dropout takes is in the result's ``provenance.notes``, since times do not repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dropkit.study.instruments_gradients import gradients
from dropkit.study.instruments_modes import evaluation_noise, variance_shift
from dropkit.study.instruments_subject import Subject
from dropkit.study.instruments_units import ablations, evaluate, units
from dropkit.study.partition import Partition
from dropkit.study.prepare import Prepared
from dropkit.study.result import finite
from dropkit.surgery.calls import undisturbed

_TIMES = 5  # epochs at which a run is looked into, evenly spread, the first and the last among them


def epochs_to_measure(epochs: int) -> list[int]:
    """Return the epochs, counted from 1, after which the instruments are read.

    Example:
        >>> epochs_to_measure(40), epochs_to_measure(2)
        ([1, 11, 21, 30, 40], [1, 2])
    """
    return sorted({1 + round(index * (epochs - 1) / (_TIMES - 1)) for index in range(_TIMES)})


def measure(ready: Prepared, model: nn.Module, part: Partition, seed: int, step: int) -> dict[str, Any]:
    """Read every instrument on ``model``, which is left as it is, as is the random state.

    Args:
        ready: the experiment.
        model: the network.
        part: its data.
        seed: the run's.
        step: steps taken so far.

    Returns:
        Name -> a number, or -> {layer: number}, as the module describes them; None for what is not finite.
    """
    subject = Subject(ready, model, part, seed, step)
    with undisturbed(model):
        seen = evaluate(subject)
        found = {"evaluation_noise": evaluation_noise(subject, seen.outputs), **units(seen), **ablations(subject, seen),
                 **variance_shift(subject),
                 **gradients(subject, seen.outputs)}  # last: training mode moves the statistics of BatchNorm
    return {name: _finite(value) for name, value in found.items()}


def append(kept: dict[str, Any], epoch: int, found: dict[str, Any]) -> None:
    """Add what was measured after ``epoch`` to what is kept of a run, a value a measured epoch.

    Example:
        >>> kept = {}
        >>> append(kept, 1, {"noise": 2.0, "gradient": {"0": 1.0}})
        >>> append(kept, 4, {"noise": 3.0, "gradient": {"0": 0.5}})
        >>> kept
        {'epoch': [1, 4], 'noise': [2.0, 3.0], 'gradient': {'0': [1.0, 0.5]}}
    """
    if not found:
        return
    kept.setdefault("epoch", []).append(epoch)
    for name, value in found.items():
        if isinstance(value, dict):
            for layer, number in value.items():
                kept.setdefault(name, {}).setdefault(layer, []).append(number)
        else:
            kept.setdefault(name, []).append(value)


def conclude(kept: dict[str, Any], history: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Return what was measured with what only the whole history shows.

    Example:
        >>> conclude({"epoch": [1]}, {"train_eval_loss": [2.0, 1.5, 1.0]})
        {'epoch': [1], 'early_slope': 0.25}
    """
    return {**kept, "early_slope": early_slope(history.get("train_eval_loss", ()))} if kept else kept


def early_slope(losses: Sequence[float | None]) -> float | None:
    """Return the share of the first loss by which it falls an epoch over the first tenth of the epochs, two at least.

    Args:
        losses: a value an epoch; None where it was not finite.

    Example:
        >>> early_slope([1.0, 0.5]), early_slope([1.0])
        (0.5, None)
    """
    last = max(1, len(losses) // 10)
    if len(losses) < 2:
        return None
    begin, end = losses[0], losses[last]
    return None if begin is None or end is None or begin == 0 else finite((begin - end) / (abs(begin) * last))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {layer: finite(number) for layer, number in value.items()}
    return finite(value)
