"""Tuning: which dropout rates are best for this model on this data, and are they really better?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dropkit.core.errors import MissingExtraError

if TYPE_CHECKING:
    from dropkit.study.experiment import Experiment
    from dropkit.study.tuning.result import TuneResult

__all__ = ["tune"]


def tune(experiment: Experiment | str, *, sites: str = "per-group", trials: int = 30, seeds: int | Sequence[int] = 3,
         confirm_seeds: int = 8, low: float = 0.0, high: float = 0.8, seed: int = 0, prune: float | None = None,
         out: str | os.PathLike[str] | None = None, jobs: int | None = None, progress: bool = True) -> TuneResult:
    """Find good dropout rates on validation data, then confirm them on fresh seeds and test data that nothing has seen.

    The search tries a sweep first (none, half the intended rates, the intended ones, and common rates), then what Optuna's TPE
    sampler proposes. A trial trains one network a tuning seed and is worth their mean validation metric; it is stopped early
    where a Wilcoxon signed-rank test over the seeds says that it is worse than the best one. The best trial's rates then go
    into a study with the arms none, intended and tuned; the verdict is that study's, because the best of many trials looks
    better than it is. The test part is the same for every seed, so that no tuning seed trains or validates on it.

    Trials are kept in ``out`` as they finish; the same call goes on where an earlier one ended. With one job everything repeats
    to the bit, stopped in between or not; with more, which trial is proposed next depends on which finished first.

    Args:
        experiment: as `dropkit.study` takes it.
        sites: ``"all"``: one rate for all sites; ``"per-group"``: one for sites of one kind whose names differ in numbers only;
            ``"per-site"``: one for each.
        trials: settings to try, at least 1.
        seeds: how many tuning seeds (0 .. seeds-1), or which.
        confirm_seeds: seeds of the confirming study, all above the tuning seeds; at least 5 for a verdict.
        low: smallest rate tried, in [0, 1).
        high: largest rate tried, in (low, 1).
        seed: of the sampler; any whole number of at least 0.
        prune: significance level at which a trial is stopped, in [0, 1]; 0 stops none. By default 0.1, and 0.3 with fewer than
            five seeds, of which two that speak against a trial have to do.
        out: the folder; ``runs/<name>-tune`` by default.
        jobs: worker processes of one thread each; the machine's cores by default.
        progress: print a line for each trial and each run of the confirming study on standard error.

    Returns:
        The result: ``.rates``, ``.verdict``, ``.tuning``, ``.study``, ``.table()``, ``.report()``.

    Raises:
        InputError: the experiment, an option or the folder breaks a rule.
        RunError: three trials in a row failed alike, or a worker process died; what had finished is kept.
        MissingExtraError: the extra ``tune`` is not installed.

    Example:
        >>> import tempfile
        >>> import dropkit as dk
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = dk.tune(dk.Experiment(data="iris", epochs=1), trials=2, seeds=1, confirm_seeds=1, out=folder, jobs=1,
        ...                     progress=False)
        >>> sorted(found.rates), len(found.tuning.trials)
        (['3', '6'], 2)

    References:
        Akiba, Sano, Yanase, Ohta and Koyama, "Optuna: A Next-generation Hyperparameter Optimization Framework", 2019.
    """
    try:  # heavy and optional
        from dropkit.study.progress import Lines, Silent
        from dropkit.study.tuning.driver import Options, run_tune
        from dropkit.study.tuning.progress import NoLines, TrialLines
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "optuna", "tune") from error
    options = Options(sites=sites, trials=trials, seeds=seeds, confirm_seeds=confirm_seeds, low=low, high=high, seed=seed,
                      prune=prune)
    return run_tune((experiment, {}) if isinstance(experiment, str) else experiment, options, out=out, jobs=jobs,
                    listener=TrialLines() if progress else NoLines(), observer=Lines() if progress else Silent())
