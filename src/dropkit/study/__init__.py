"""Studies: does dropout help this model on this data, by how much, and how sure is that?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dropkit.core.errors import MissingExtraError

if TYPE_CHECKING:
    from dropkit.study.experiment import Experiment
    from dropkit.study.result import StudyResult
    from dropkit.study.spec import Spec

__all__ = ["study"]


def study(experiment: Experiment | str, *,
          arms: Mapping[str, float | Mapping[str, float] | Spec | str] | str | Sequence[str] | None = None,
          seeds: int | Sequence[int] = 8, out: str | os.PathLike[str] | None = None, jobs: int | None = None,
          progress: bool = True, engine: str = "processes", address: str | None = None, cpus_per_run: float = 1.0,
          checkpoint_every: float = 5.0, fused: bool | str = "auto",
          tensorboard: str | os.PathLike[str] | bool = False) -> StudyResult:
    """Tell whether dropout helps this model on this data.

    Every arm is trained with every seed. A seed fixes initial weights, split and order of the data, so arms are compared in
    pairs: with differences d_1 .. d_n of the test metric between an arm and the reference (positive: the arm is better), the
    effect is their mean, its 95 % interval mean +- t(.975, n-1) sd / sqrt(n). There is *no meaningful difference* if that
    interval lies inside the margin (two one-sided t tests at level 0.025); otherwise an arm *helps* or *hurts* if the
    two-sided paired t test, corrected by Holm over the arms, falls below 0.05; otherwise the study is *inconclusive* and says
    how many seeds would settle it. Under 5 seeds there is a leaning and no verdict.

    Finished runs are kept in ``out``, those in hand leave checkpoints; calling again with the same experiment runs only what is
    missing, and ends in the same numbers.

    Args:
        experiment: an `Experiment`, or the name of an embedded set, a data file, ``module:object`` or ``file.py:object``.
        arms: name -> a factor of at least 0 on every intended rate, -> {glob: rate in [0, 1]}, or -> `dropkit.arm` for changes
            to the training recipe; or text such as ``"none,intended,weight_decay=0.001,leave-one-out"``. The arm that drops and
            changes nothing is the reference, else the first. Default ``{"none": 0, "reduced": 0.5, "intended": 1}``.
        seeds: how many (0 .. seeds-1), or which; at least 5 for a verdict.
        out: the folder for ledger, result and report; ``runs/<name>`` by default.
        jobs: worker processes of one thread each; the machine's cores by default. The numbers do not depend on it.
        fused: train up to 6 runs as one batch, which spares small networks most of the time between operations: True, False,
            or ``"auto"``, which tries two steps both ways and fuses where they agree and the batch is faster. Fused runs agree
            with single ones to float tolerance and have no checkpoints within. A study goes on as it was begun, and its
            provenance tells how and why. Which runs make a batch depends on arms and seeds alone, so neither jobs nor
            interruptions change a bit; with True or False the machine's timing has no say either.
        progress: print a line for each finished run on standard error.
        engine: ``"processes"``: worker processes on this machine; ``"ray"``: tasks on a Ray cluster; ``"serial"``: in this
            process, one after the other, for debuggers. The numbers do not depend on it.
        address: of the Ray cluster, ``"auto"`` for the one this machine belongs to; by default Ray is started on this machine.
        cpus_per_run: cores that Ray reserves for a run, above 0.
        checkpoint_every: seconds between two checkpoints of a run, at least 0; 0 writes one after every step.
        tensorboard: write each finished run's history, instruments and scores as TensorBoard scalars, into this folder or, for
            True, into ``tensorboard`` in ``out``; needs the extra ``tensorboard``.

    Returns:
        The result: ``.verdict``, ``.table()``, ``.report()``, ``.diagnoses`` (what the instruments show and you might act on),
        and every run's figures.

    Raises:
        InputError: the experiment, an arm or the folder breaks a rule; nothing has been written.
        RunError: runs failed; the others were finished and kept, unless three had failed alike.
        LedgerError: the disk is full; what had finished before is kept.
        MissingExtraError: the extra ``study``, or ``ray`` or ``tensorboard`` where it is asked for, is not installed.

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
        from dropkit.study.engines.choice import Running
        from dropkit.study.progress import Lines, Silent
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "scipy", "study") from error
    source: Source = (experiment, {}) if isinstance(experiment, str) else experiment
    running = Running(engine=engine, jobs=jobs, address=address, cpus_per_run=cpus_per_run, checkpoint_every=checkpoint_every,
                      fused=fused)
    return run_study(source, arms=arms, seeds=seeds, out=out, observer=Lines() if progress else Silent(), running=running,
                     tensorboard=tensorboard)
