"""What the report says about its figures: captions that tell how to read them, alternative texts that tell their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from dropkit.report import look
from dropkit.report.calibration import pooled
from dropkit.report.curves import SEEDS, Bundle, Measure, bundle, epochs_drawn, skipped
from dropkit.report.numbers import Scale, known, mean, number
from dropkit.study.effects import Effect
from dropkit.study.result import Contrast, StudyResult


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> counted(1, "seed"), counted(1200, "example")
        ('1 seed', '1,200 examples')
    """
    return f"{count:,} {noun_of(count, noun)}"


def noun_of(count: int, noun: str) -> str:
    """Return ``noun`` as it follows ``count``: with an s unless there is one.

    Example:
        >>> noun_of(1, "seed"), noun_of(0, "seed")
        ('seed', 'seeds')
    """
    return noun if count == 1 else f"{noun}s"


def headline(result: StudyResult) -> Contrast | None:
    """Return the contrast behind the verdict: that of the arm judged, else that of the last arm that came out so."""
    order = {arm.name: index for index, arm in enumerate(result.arms)}

    judged = result.verdict.judged or result.verdict.arm

    def rank(item: Contrast) -> tuple[bool, bool, int]:
        return item.arm == judged, item.kind == result.verdict.kind, order.get(item.arm, -1)

    return max(result.contrasts, key=rank, default=None)


def diverged_note(result: StudyResult) -> str:
    """Say how many runs diverged and what stands in for their scores, or nothing when none did."""
    count = sum(run.status == "diverged" for run in result.runs)
    return f" {counted(count, 'run')} diverged and count with the score of the best constant prediction." if count else ""


def paired_caption(result: StudyResult) -> str:
    """Say how to read the paired plot."""
    scale = Scale.of(result.summary)
    hollow = ", hollow where it diverged" if diverged_note(result) else ""
    return (f"Each point is a run{hollow}, each thin line one seed through the arms, each bar the mean of an arm; "
            f"{scale.direction}.")


def paired_alt(result: StudyResult) -> str:
    """Tell each arm's mean and range of the test metric."""
    scale = Scale.of(result.summary)
    parts = []
    for arm in result.arms:
        values = known(run.test_metric for run in result.of_arm(arm.name))
        if values:
            parts.append(f"{arm.name}: mean {scale.value(mean(values))}, from {scale.value(min(values))} "
                         f"to {scale.value(max(values))}")
    return (f"Test {scale.metric} of {counted(len(result.runs), 'run')}, {scale.direction}. "
            + "; ".join(parts) + "." + diverged_note(result))


def forest_caption(result: StudyResult) -> str:
    """Say how to read the forest plot."""
    references = sorted({item.reference for item in result.contrasts})
    against = f" against {references[0]}" if len(references) == 1 else ""
    if not has_intervals(result):
        return (f"The marker is the difference{against}, the grey band the margin within which it is not worth having; "
                "so few seeds give no interval.")
    return (f"The large marker is the mean difference{against}, its bar the 95 % interval, with the seeds' own differences "
            "under it; an interval clear of zero shows a difference, one inside the grey margin shows none worth having.")


def effect_name(effect: Effect) -> str:
    """Name a change, or two that are taken together."""
    return " × ".join(look.shorten(change) for change in effect.changes)


def effects_caption(found: Sequence[Effect]) -> str:
    """Say how to read the effects of a factorial."""
    bars = ", its bar the 95 % interval" if found[0].low is not None else ""
    return (f"The large marker is what a change is worth on the average over all settings of the others{bars}. A row with × is "
            "how much more two are worth together than the sum of each alone: right of zero they strengthen each other, left "
            "of it one makes the other less needed, and at zero they add up.")


def effects_alt(result: StudyResult, found: Sequence[Effect]) -> str:
    """Tell each effect with its interval."""
    scale = Scale.of(result.summary)
    parts = [f"{' and '.join(effect.changes)}{' together' if len(effect.changes) > 1 else ''}: {scale.effect(effect)}, "
             f"{effect.kind}" for effect in found]
    return f"Effects on test {scale.metric}, positive where better. {'; '.join(parts)}."


def has_intervals(result: StudyResult) -> bool:
    """Say whether any contrast has an interval."""
    return any(item.low is not None for item in result.contrasts)


def forest_alt(result: StudyResult) -> str:
    """Tell each contrast's effect, interval and verdict."""
    scale = Scale.of(result.summary)
    parts = [f"{item.arm} against {item.reference}: {scale.effect(item)}, {verdict_words(item)}" for item in result.contrasts]
    return (f"Differences in test {scale.metric}, positive where the arm is better; the margin is "
            f"{scale.amount(result.summary.margin)}. {'; '.join(parts)}.")


def verdict_words(item: Contrast) -> str:
    """Write the verdict on one contrast, with the direction where it is only a leaning."""
    return f"leaning: {item.leaning}" if item.kind == "leaning" else item.kind


def curves_caption(result: StudyResult, one_arm: bool) -> str:
    """Say how to read the curves: line, band, thin lines, crosses, thinning."""
    several = len(result.seeds) > 1
    inputs = any({"noise", "shift", "flip", "augment"} & set(arm.recipe.changes()) for arm in result.arms)
    noise = "the noise of dropout and of inputs changed at random" if inputs else "dropout's noise"
    lines = f"From dotted to dashed is {noise}, from dashed to solid the real gap" if one_arm else ""
    means = "lines are means over the seeds, bands one standard deviation either side, thin lines single seeds"
    start = "the vertical axis is cut to what follows the first fifth of the epochs"
    notes = [part for part in (lines, means if several else "one seed, so no band",
                               start if skipped(epochs_drawn(result)) else "") if part]
    if one_arm and len(epochs_drawn(result)) == 1:
        notes.append("after one epoch, an open square is the training data without dropout and an open circle with it")
    notes += ["a cross marks the last finite epoch of a run that diverged, which is left out of the mean"] \
        if diverged_note(result) else []
    if len(result.seeds) > SEEDS:
        notes.append(f"{SEEDS} seeds an arm are drawn thin")
    drawn = epochs_drawn(result)
    if len(drawn) > 1 and drawn[1] - drawn[0] > 1:
        notes.append(f"every {drawn[1] - drawn[0]}th epoch is drawn")
    text = "; ".join(notes)
    return f"{text[0].upper()}{text[1:]}."


def validation_alt(result: StudyResult, measure: Measure) -> str:
    """Tell each arm's mean validation value after the last epoch and at its best."""
    parts = []
    for arm in result.arms:
        values = known(bundle(result, arm.name, "val", measure).middle())
        if values:
            best = max(values) if measure == "metric" and result.summary.higher_is_better else min(values)
            parts.append(f"{arm.name} {_shown(result, measure, values[-1])}, best {_shown(result, measure, best)}")
    name = "loss" if measure == "loss" else result.summary.metric
    return f"Mean validation {name} after epoch {result.summary.epochs}: " + ("; ".join(parts) or "no run finished") + "."


def learning_alt(result: StudyResult, arm: str, measure: Measure) -> str:
    """Tell one arm's means after the last epoch: validation, training data in both modes."""
    name = "loss" if measure == "loss" else result.summary.metric
    last = {kind: _last(bundle(result, arm, kind, measure)) for kind in ("val", "train_eval", "train")}
    shown = {kind: _shown(result, measure, value) for kind, value in last.items()}
    return (f"{arm}, mean {name} after epoch {result.summary.epochs}: validation {shown['val']}; training data "
            f"{shown['train_eval']} in evaluation mode and {shown['train']} in training mode.")


def gap_caption(result: StudyResult) -> str:
    """Say how to read the gap."""
    return (f"How much better {result.summary.metric} is on the training data than on the test data, both in evaluation mode: "
            "small points are seeds, the large marker their mean; further right is more overfitting.")


def gap_alt(result: StudyResult) -> str:
    """Tell each arm's mean gap."""
    scale = Scale.of(result.summary)
    parts = [f"{arm.name} {scale.difference(mean(run.gap for run in result.of_arm(arm.name)))}" for arm in result.arms]
    return f"Mean generalisation gap in {scale.metric}: {'; '.join(parts)}."


def reliability_caption(result: StudyResult) -> str:
    """Say how to read the reliability diagrams."""
    pool = f"pooled over the runs of {counted(len(result.seeds), 'seed')}" if len(result.seeds) > 1 else "of the one run"
    return (f"Test predictions {pool}: points under the dashed diagonal claim more certainty than they earn, points above it "
            "less; the bars count how many predictions each point stands on.")


def reliability_alt(result: StudyResult, arm: str) -> str:
    """Tell one arm's mean confidence, accuracy and calibration error."""
    bins = [item for item in pooled(result.of_arm(arm)) if item.count]
    total = sum(item.count for item in bins) or 1
    sure = sum(item.count * (item.confidence or 0.0) for item in bins) / total
    right = sum(item.count * (item.accuracy or 0.0) for item in bins) / total
    error = mean(run.ece for run in result.of_arm(arm))
    return (f"{arm}: over {counted(total, 'prediction')} the mean confidence is {sure:.1%} and the accuracy {right:.1%}; "
            f"the expected calibration error of a run is {number(error, 3)} on average.")


def _last(curves: Bundle) -> float | None:
    values = curves.middle()
    return values[-1] if values else None


def _shown(result: StudyResult, measure: Measure, value: float | None) -> str:
    if value is None or measure == "loss":
        return number(value)
    scale = Scale.of(result.summary)
    return scale.value(value / scale.factor)
