"""What weakens a verdict, each said with what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dropkit.study.contrasts import FIRM_SEEDS, LEVEL
from dropkit.study.result import NO_DIFFERENCE, Arm, Contrast, Run, Summary
from dropkit.study.wording import count, margin_words, signed


def cautions(runs: Sequence[Run], contrasts: Sequence[Contrast], seeds: Sequence[int], summary: Summary,
             arms: Sequence[Arm] = ()) -> list[str]:
    """Say what weakens the verdict: one sentence or two each, with what to do about it; an empty list if nothing does.

    Args:
        runs: every run of the study.
        contrasts: what `contrasts` returned.
        seeds: the study's seeds.
        summary: metric, unit, margin and sizes.
        arms: every arm, for what each was to spend.
    """
    by_arm: dict[str, list[Run]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    found = [*_few_seeds(seeds)]
    for arm, group in by_arm.items():
        found += _diverged(arm, group)
    for one in arms:
        found += _stopped(one, by_arm.get(one.name, []), summary)
    for contrast in contrasts:
        found += _tests_disagree(contrast)
        found += _one_seed(contrast, summary)
    return found + _coarse_test_set(summary) + _ceiling(by_arm, summary)


def _few_seeds(seeds: Sequence[int]) -> list[str]:
    if len(seeds) >= FIRM_SEEDS:
        return []
    return [f"Only {count(len(seeds), 'seed')}: a verdict needs at least {FIRM_SEEDS}, and 8 are a good number; "
            "run the same study with more (--seeds 8), finished runs are kept."]


def _diverged(arm: str, runs: Sequence[Run]) -> list[str]:
    bad = sorted(run.seed for run in runs if run.status == "diverged")
    if not bad:
        return []
    return [f"{len(bad)} of {count(len(runs), 'run')} of arm {arm!r} diverged (seed{'s' if len(bad) > 1 else ''} "
            f"{', '.join(map(str, bad))}), scored as the best constant prediction; lower the learning rate or clip "
            "gradients before trusting this arm's mean."]


def _tests_disagree(found: Contrast) -> list[str]:
    if found.p_t is None or found.p_sign_flip is None or (found.p_t < LEVEL) == (found.p_sign_flip < LEVEL):
        return []
    return [f"For arm {found.arm!r} the paired t test (p = {found.p_t:.2g}) and the sign-flip test "
            f"(p = {found.p_sign_flip:.2g}) fall on either side of {LEVEL}: the evidence is borderline or rests on an "
            "outlying seed; add seeds before acting on it."]


def _coarse_test_set(summary: Summary) -> list[str]:
    if summary.task == "sequence" or summary.unit != "points" or summary.n_test < 1:
        return []
    if summary.margin <= 0 or summary.margin * summary.n_test >= 1:
        return []
    each = "The only test example" if summary.n_test == 1 else f"One of the {summary.n_test} test examples"
    return [f"{each} is worth {100 / summary.n_test:.2f} points, more than "
            f"the margin of {margin_words(summary)}: hold out at least {math.ceil(1 / summary.margin)} test examples, "
            "or widen the margin."]


def _stopped(arm: Arm, runs: Sequence[Run], summary: Summary) -> list[str]:
    members = arm.recipe.members
    each = summary.epochs // members
    if members * each < 0.95 * summary.epochs:
        return [f"Arm {arm.name!r} spent {members * each} of {summary.epochs} epochs, because its {members} members share them "
                "evenly; choose a number of epochs that they divide."]
    if not arm.recipe.early_stopping or not runs:
        return []
    mean = sum(len(run.history["val_loss"]) for run in runs) / len(runs)
    did = "spent less and chose more" if mean < each else "spent as much and chose more"
    return [f"Arm {arm.name!r} ran {mean:.3g} of {each} epochs on average and is scored at its best epoch on the validation "
            f"data, the others at their last: it {did}, so part of its difference is that choice; give the arm that it "
            "competes with early stopping, too, before preferring one."]


def _ceiling(by_arm: Mapping[str, Sequence[Run]], summary: Summary) -> list[str]:
    if summary.unit != "points" or not by_arm:
        return []
    best = 1.0 if summary.higher_is_better else 0.0
    means = [math.fsum(run.test_metric for run in runs) / len(runs) for runs in by_arm.values()]
    if not all(abs(best - mean) < summary.margin for mean in means):
        return []
    return [f"Test {summary.metric} is at its ceiling in every arm, within {margin_words(summary)} of {100 * best:g} %: no "
            "difference worth having could show; use a harder task, less training data or a finer metric."]


def _one_seed(found: Contrast, summary: Summary) -> list[str]:
    total = math.fsum(abs(value) for value in found.differences)
    n = len(found.seeds)
    if n < FIRM_SEEDS or found.leaning == NO_DIFFERENCE:
        return []
    largest = max(range(n), key=lambda index: abs(found.differences[index]))
    value = found.differences[largest]
    if abs(value) <= total / 2 or (value > 0) != (found.mean > 0):
        return []
    rest = (math.fsum(found.differences) - value) / (n - 1)
    return [f"For arm {found.arm!r} most of the difference comes from seed {found.seeds[largest]}: the mean is "
            f"{signed(summary, found.mean)} with it and {signed(summary, rest)} without; look at that seed's curves, "
            "and add seeds."]
