"""How much each group's rate matters to the score, with the noise of that estimate."""

from __future__ import annotations

from statistics import fmean, stdev

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from dropkit.study.tuning.record import Importance

FEWEST = 12
"""Fewest finished trials from which importances are estimated."""
_TIMES = 8  # resamplings of the trials
_TREES = 16


def importances(study: optuna.Study, seed: int) -> list[Importance]:
    """Estimate the share of the score's variation that each group's rate explains.

    fANOVA is fitted to the trials drawn again with replacement, several times, so that its spread shows both its own noise and
    that of having few trials; PED-ANOVA, which asks what sets the best trials apart, is given once on all of them.

    Args:
        study: Optuna's study.
        seed: any whole number of at least 0.

    Returns:
        One for each group, most important first; empty with one group, fewer than 12 trials, or a score that never changed.

    References:
        Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", 2014. Watanabe, Bansal
        and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", 2023.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < FEWEST or len(trials[0].params) < 2 or len({trial.value for trial in trials}) < 2:
        return []
    generator = np.random.default_rng(seed)
    draws = [_fanova(study, [trials[at] for at in generator.integers(len(trials), size=len(trials))], time)
             for time in range(_TIMES)]
    whole = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    found = [Importance(label, fmean(draw[label] for draw in draws), stdev(draw[label] for draw in draws),
                        float(whole[label])) for label in trials[0].params]
    return sorted(found, key=lambda one: (-one.mean, one.label))


def _fanova(study: optuna.Study, trials: list[FrozenTrial], seed: int) -> dict[str, float]:
    again = optuna.create_study(direction=study.direction)
    again.add_trials(trials)
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
    return {label: float(share) for label, share in get_param_importances(again, evaluator=evaluator).items()}
