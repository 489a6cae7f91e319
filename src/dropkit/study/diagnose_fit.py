"""Findings about how well an arm fits: too little, too much, too late, not yet, not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from dropkit.schedules.text import parse
from dropkit.study.diagnose_evidence import Evidence, beyond_noise, last, measured, middle
from dropkit.study.result import Arm, Diagnosis, Run
from dropkit.study.wording import count, signed

_WIDE_POINTS = 0.05  # a gap of a share between 0 and 1 that is wide
_WIDE_SHARE = 0.25  # and one of any other metric, as a share of the metric
_WORSE_FIT = 0.05  # share of the training loss of the arm without dropout that another's lies above it
_NO_GAP = 0.25  # share of the training loss by which the validation loss may lie above it without a gap to speak of
_AGREE = 2.0  # data noise below which batches agree on where to go; without any agreement it is about 4
_STILL_FALLING = 0.02  # share of the validation loss whose fall from tenth to tenth of the epochs counts as falling
_FLAT = 0.01  # share of the loss that must fall an epoch, early on


def underfitting(evidence: Evidence) -> list[Diagnosis]:
    """Arms whose dropout keeps them from fitting the training data.

    That a training loss lies above a validation loss may as well be due to the data (noisy labels in the training part, say);
    so the arm has to fit the training data worse than the arm without dropout, and to predict worse by more than noise. Masks
    that add next to no noise to the gradient keep no arm from fitting.
    """
    plain = evidence.plain
    if plain is None:
        return []
    best = evidence.over_seeds(plain, _best_validation)
    found = []
    for arm in evidence.dropping:
        loss = evidence.over_seeds(arm, lambda run: run.train_eval_loss)
        held_out = evidence.over_seeds(arm, lambda run: run.val_loss)
        worse = _worse_fit(evidence, arm, plain)
        if loss is None or held_out is None or best is None or worse is None or evidence.is_faint(arm):
            continue
        if loss > best and held_out < loss + _NO_GAP * abs(loss):
            found.append(Diagnosis(
                "underfitting", arm.name,
                f"Arm {arm.name!r} underfits: in evaluation its loss on the training data is above that of {plain.name!r}, and "
                f"above the one that {plain.name!r} at its best has on unseen data, and there is no gap to close.",
                f"training loss {loss:.3g} (evaluation mode), {worse:.2g} above that of {plain.name!r} seed by seed, and "
                f"validation loss {held_out:.3g}, against a validation loss of {best:.3g} for {plain.name!r}",
                "Lower the rates, or widen the network and train for more epochs."))
    return found


def _worse_fit(evidence: Evidence, arm: Arm, plain: Arm) -> float | None:
    """Return by how much an arm's training loss lies above that of the plain one, where that and the loss of score matter."""
    known = middle(evidence.paired(arm, plain, lambda run: run.train_eval_loss))
    size = evidence.over_seeds(plain, lambda run: run.train_eval_loss)
    sign = -1.0 if evidence.summary.higher_is_better else 1.0
    lost = beyond_noise(evidence.paired(arm, plain, lambda run: sign * run.test_metric))
    if known is None or size is None or lost < evidence.summary.margin or lost <= 0:
        return None
    return known if known > _WORSE_FIT * abs(size) else None


def overfitting(evidence: Evidence) -> list[Diagnosis]:
    """The strongest arm, where its gap is wide and narrower than without dropout."""
    plain, found = evidence.plain, []
    for arm in evidence.strongest if plain is not None else []:
        assert plain is not None
        own, other = (evidence.over_seeds(each, lambda run: run.gap) for each in (arm, plain))
        size = evidence.over_seeds(arm, lambda run: abs(run.test_metric)) or 0.0
        wide = _WIDE_POINTS if evidence.summary.unit == "points" else _WIDE_SHARE * size
        if own is None or other is None or own < wide or other - own < 0.1 * own or evidence.gain(arm, plain) < 0:
            continue
        highest = max(site.p for site in arm.sites)
        if highest < 0.8:
            found.append(Diagnosis(
                "overfitting", arm.name,
                f"Arm {arm.name!r} still overfits, and dropout has narrowed the gap: more of it may narrow it further.",
                f"gap {signed(evidence.summary, own)}, against {signed(evidence.summary, other)} for {plain.name!r}",
                f"Try higher rates, for example arms={{'none': 0, 'more': {min(1.5, 0.8 / highest):.2g}}}; "
                "more data or weight decay work on the same gap."))
    return found


def too_late(evidence: Evidence) -> list[Diagnosis]:
    """Arms with a schedule whose rates rise only after the validation loss has turned."""
    found, epochs, summary = [], evidence.summary.epochs, evidence.summary
    for arm in evidence.dropping:
        if arm.recipe.schedule is None:
            continue
        steps = epochs * max(1, math.ceil(summary.n_train / summary.batch_size))
        schedule = parse(arm.recipe.schedule).over(steps)
        rates = [schedule(round(steps * epoch / epochs)) for epoch in range(1, epochs + 1)]
        turn = evidence.over_seeds(arm, _turn)
        highest = max(rates)
        if turn is None or highest == 0 or max(rates[: round(turn)]) >= highest / 2:
            continue
        raised = next(epoch for epoch, value in enumerate(rates, 1) if value >= highest / 2)
        found.append(Diagnosis(
            "raised too late", arm.name,
            f"The schedule of arm {arm.name!r} raises the rates when the network has already begun to overfit.",
            f"half of the highest rate is reached in epoch {raised}; the validation loss was lowest in epoch {round(turn)} "
            f"of {epochs} and rose by more than 5 % since",
            f"Begin the raise before epoch {round(turn)}, or keep the rates constant."))
    return found


def not_converged(evidence: Evidence) -> list[Diagnosis]:
    """Arms of which most runs still improved at the end."""
    found = []
    for arm in evidence.result.arms:
        runs = [run for run in evidence.runs[arm.name] if run.status != "diverged"]
        falling = [run for run in runs if falls(run.history.get("val_loss", []))]
        if runs and len(falling) > len(runs) / 2:
            fall = middle(last_fall(run.history["val_loss"]) for run in falling) or 0.0
            found.append(Diagnosis(
                "not converged", arm.name, f"Arm {arm.name!r} was still improving when training ended.",
                f"validation loss fell by {100 * fall:.2g} % over the last tenth of {evidence.summary.epochs} epochs, in "
                f"{len(falling)} of {count(len(runs), 'run')}",
                f"Train every arm for more epochs, such as {2 * evidence.summary.epochs}, and compare again."))
    return found


def falls(losses: Sequence[float | None]) -> bool:
    """Tell whether the loss still fell by more than 2 % over the last tenth of the epochs, and by more than it jitters.

    Example:
        >>> falls([1.0, 0.5]), falls([1.0, 0.5, 0.5])
        (True, False)
    """
    return (last_fall(losses) or 0.0) > _STILL_FALLING


def last_fall(losses: Sequence[float | None]) -> float | None:
    """Return by which share the mean loss of the last tenth of the epochs lies below that of the tenth before.

    A fall of less than two standard errors of the two means is 0; None where there are too few epochs or a loss is missing.
    """
    tenth = max(1, round(len(losses) / 10))
    known = [loss for loss in losses[-2 * tenth:] if loss is not None]
    if len(known) < 2 * tenth:
        return None
    before, after = known[:tenth], known[tenth:]
    jitter = math.sqrt((variance(before) + variance(after)) / tenth) if tenth > 1 else 0.0
    fall = fmean(before) - fmean(after)
    return fall / abs(fmean(before)) if fall > 2 * jitter and fmean(before) != 0 else 0.0


def learning_rate(evidence: Evidence) -> list[Diagnosis]:
    """Arms whose loss says that another learning rate is worth trying."""
    found = []
    for arm in evidence.result.arms:
        runs = evidence.runs[arm.name]
        blown = [run for run in runs if run.status == "diverged" or _blew_up(run)]
        flat = [run for run in runs if _flat(run)]
        if len(blown) > len(runs) / 4:
            found.append(_too_high(evidence, arm, blown))
        elif len(flat) > len(runs) / 2:
            found.append(_too_low(evidence, arm, flat))
    return found


def _too_high(evidence: Evidence, arm: Arm, runs: list[Run]) -> Diagnosis:
    lost = sum(run.status == "diverged" for run in runs)
    return Diagnosis(
        "learning rate", arm.name, f"Training of arm {arm.name!r} came apart.",
        f"of {count(len(evidence.runs[arm.name]), 'run')} {lost} diverged and the training loss of {len(runs) - lost} rose "
        f"to more than twice its lowest value; the optimiser is {evidence.summary.optimizer}",
        "Try a learning rate a third or a tenth as high, or clip the gradients.")


def _too_low(evidence: Evidence, arm: Arm, runs: list[Run]) -> Diagnosis:
    slope = middle(run.instruments.get("early_slope") for run in runs) or 0.0
    noise = middle(last(run.instruments.get("data_noise", [])) for run in runs) or 0.0
    return Diagnosis(
        "learning rate", arm.name,
        f"Arm {arm.name!r} hardly learns, though its gradients still agree on where to go.",
        f"training loss falls by {100 * slope:.2g} % an epoch early on and by less than half in all; gradient noise from data "
        f"is {noise:.2g} times the squared gradient; the optimiser is {evidence.summary.optimizer}",
        "Try a learning rate 3 to 10 times as high.")


def _flat(run: Run) -> bool:
    losses = [value for value in run.history.get("train_eval_loss", []) if value is not None]
    slope, noise = run.instruments.get("early_slope"), measured(run, "data_noise")
    if slope is None or not noise or len(losses) < 2:
        return False
    return slope < _FLAT and losses[-1] > losses[0] / 2 and noise[-1] < _AGREE


def _blew_up(run: Run) -> bool:
    losses = [value for value in run.history.get("train_eval_loss", []) if value is not None]
    return len(losses) > 1 and losses[-1] > max(2 * min(losses), losses[0] / 2)


def _best_validation(run: Run) -> float | None:
    return min((value for value in run.history.get("val_loss", []) if value is not None), default=None)


def _turn(run: Run) -> float | None:
    """The epoch of the lowest validation loss, where it has risen by more than 5 % since."""
    losses = run.history.get("val_loss", [])
    known = [(value, epoch) for epoch, value in enumerate(losses, 1) if value is not None]
    if not known or losses[-1] is None:
        return None
    lowest, epoch = min(known)
    return float(epoch) if losses[-1] > lowest + 0.05 * abs(lowest) else None
