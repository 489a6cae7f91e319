"""Studies: does dropout help this model on this data, by how much, and how sure is that?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dropkit.core.errors import MissingExtraError

if TYPE_CHECKING:
    from dropkit.study.experiment import Experiment
    from dropkit.study.result import StudyResult

__all__ = ["study"]


def study(experiment: Experiment | str, *, arms: Mapping[str, float | Mapping[str, float]] | None = None,
          seeds: int | Sequence[int] = 8, out: str | os.PathLike[str] | None = None, jobs: int | None = None,
          fused: bool | str = "auto", progress: bool = True) -> StudyResult:
    """Tell whether dropout helps this model on this data.

    Every arm is trained with every seed. A seed fixes initial weights, split and order of the data, so arms are compared in
    pairs: with differences d_1 .. d_n of the test metric between an arm and the reference (positive: the arm is better), the
    effect is their mean, its 95 % interval mean +- t(.975, n-1) sd / sqrt(n). There is *no meaningful difference* if that
    interval lies inside the margin (two one-sided t tests at level 0.025); otherwise an arm *helps* or *hurts* if the
    two-sided paired t test, corrected by Holm over the arms, falls below 0.05; otherwise the study is *inconclusive* and says
    how many seeds would settle it. Under 5 seeds there is a leaning and no verdict.

    Finished runs are kept in ``out``; calling again with the same experiment runs only what is missing, and ends in the same
    numbers.

    Args:
        experiment: an `Experiment`, or the name of an embedded set, a data file, ``module:object`` or ``file.py:object``.
        arms: name -> a factor of at least 0 on every intended rate, or -> {glob: rate in [0, 1]}. The arm that drops nothing is
            the reference, else the first. Default ``{"none": 0, "reduced": 0.5, "intended": 1}``.
        seeds: how many (0 .. seeds-1), or which; at least 5 for a verdict.
        out: the folder for ledger, result and report; ``runs/<name>`` by default.
        jobs: worker processes of one thread each; the machine's cores by default. The numbers do not depend on it.
        fused: train up to 6 runs as one batch, which spares small networks most of the time between operations: True, False,
            or ``"auto"``, which tries two steps both ways and fuses where they agree and the batch is faster. Fused runs agree
            with single ones to float tolerance. A study goes on as it was begun, and its provenance tells how and why. Which
            runs make a batch depends on arms and seeds alone, so neither jobs nor interruptions change a bit; with True or
            False the machine's timing has no say either.
        progress: print a line for each finished run on standard error.

    Returns:
        The result: ``.verdict``, ``.table()``, ``.report()``, and every run's figures.

    Raises:
        InputError: the experiment, an arm or the folder breaks a rule; nothing has been written.
        RunError: a run failed; what had finished is kept.
        MissingExtraError: the extra ``study`` is not installed.

    Example:
        >>> import tempfile
        >>> import dropkit as dk
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = dk.study(dk.Experiment(data="iris", epochs=2), seeds=2, out=folder, progress=False)
        >>> found.verdict.kind
        'leaning'

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. Schuirmann, "A Comparison of the Two One-Sided
        Tests Procedure and the Power Approach for Assessing the Equivalence of Average Bioavailability", 1987.
    """
    try:  # heavy and optional: statistics, data readers, worker processes
        from dropkit.study.driver import Source, run_study
        from dropkit.study.progress import Lines, Silent
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "scipy", "study") from error
    source: Source = (experiment, {}) if isinstance(experiment, str) else experiment
    return run_study(source, arms=arms, seeds=seeds, out=out, jobs=jobs, fused=fused,
                     observer=Lines() if progress else Silent())
