"""What the instruments of a study say that a person would act on."""

from __future__ import annotations

from collections.abc import Sequence

from dropkit.study.diagnose_dropout import dead_units, misplaced, mode_bug, too_weak
from dropkit.study.diagnose_evidence import Evidence
from dropkit.study.diagnose_fit import learning_rate, not_converged, overfitting, too_late, underfitting
from dropkit.study.result import Diagnosis, StudyResult

_LOOKS = (mode_bug, misplaced, learning_rate, underfitting, overfitting, too_weak, too_late, dead_units, not_converged)

_UNSETTLING = ("mode bug", "misplaced", "learning rate", "not converged")  # once mended, the verdict may be another


def diagnose(result: StudyResult) -> list[Diagnosis]:
    """Return what a study's runs show and a person would act on, what spoils the most first; an empty list if nothing does.

    Medians over seeds are judged, never a single run, and each finding brings its figures and a remedy:

    ==================  ================================================================================================
    mode bug            the outputs change from one evaluation to the next, or rates above 0 never change a gradient
    misplaced           dropout shifts the variance at a BatchNorm to over 1.2 or under 0.8 times, or a site drops outputs
    learning rate       runs diverged, the training loss blew up, or it hardly moves while the gradients still agree
    underfitting        the training data are fitted worse than by arm `none`, which fits even unseen data better, without a gap
    overfitting         the gap is still wide though dropout has narrowed it
    rate too low        masks add next to no noise to the gradient, and the gap is that of arm `none`
    raised too late     a schedule raises the rates when the validation loss has long turned
    dead units          a quarter or more of the units that a layer reads are zero for every example
    not converged       the validation loss was still falling at the end
    ==================  ================================================================================================

    Args:
        result: a study, or what `dropkit.study.result.load_result` read; its own ``diagnoses`` are not looked at.
    """
    evidence = Evidence(result)
    return [found for look in _LOOKS for found in look(evidence)]


def grouped(diagnoses: Sequence[Diagnosis]) -> list[list[Diagnosis]]:
    """Put together what is found in several arms and mended alike, so that it is told once; the order stays.

    Example:
        >>> one, two = (Diagnosis("not converged", arm, "It still improves.", "", "Train longer.") for arm in ("a", "b"))
        >>> [[found.arm for found in group] for group in grouped([one, two])]
        [['a', 'b']]
    """
    groups: dict[tuple[str, str], list[Diagnosis]] = {}
    for found in diagnoses:
        groups.setdefault((found.kind, found.remedy), []).append(found)
    return list(groups.values())


def first_of_all(next_step: str, diagnoses: Sequence[Diagnosis]) -> str:
    """Put what may change the verdict before a verdict's next step.

    Args:
        next_step: the verdict's.
        diagnoses: of the same study.

    Example:
        >>> first_of_all("Train without dropout.", [Diagnosis("mode bug", "intended", "", "", "")])
        'First see to what was found (mode bug), which may change the verdict. If it stands: train without dropout.'
    """
    kinds = [kind for kind in _UNSETTLING if any(found.kind == kind for found in diagnoses)]
    if not kinds:
        return next_step
    then = next_step[:1].lower() + next_step[1:]
    return f"First see to what was found ({', '.join(kinds)}), which may change the verdict. If it stands: {then}"
