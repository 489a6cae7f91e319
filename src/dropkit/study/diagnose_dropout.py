"""Findings about dropout itself: whether it acts when it should, where it should, and enough to matter."""

from __future__ import annotations

from collections.abc import Mapping

from dropkit.study.diagnose_evidence import WEAK, Evidence, measured, middle, rate
from dropkit.study.result import Arm, Diagnosis
from dropkit.study.wording import amount, signed

_CHANGED = 1e-4  # of the outputs between two evaluations: far above rounding, far below any dropout
_SHIFT = (0.8, 1.2)  # variance in training over variance in evaluation that BatchNorm can live with
_DEAD = 0.25  # share of a layer's units


def mode_bug(evidence: Evidence) -> list[Diagnosis]:
    """Dropout that goes on in evaluation, or that never begins."""
    arms = {arm.name: arm for arm in evidence.result.arms}
    changes = {name: evidence.over_seeds(arm, lambda run: max(measured(run, "evaluation_noise"), default=None))
               for name, arm in arms.items()}
    worst = max(arms, key=lambda name: changes[name] or 0.0)
    plain = next((name for name, arm in arms.items() if rate(arm) == 0 and (changes[name] or 0.0) > _CHANGED), None)
    found = []
    if plain is not None:
        found.append(_not_the_studys(evidence, arms[plain], changes))
    elif (changes[worst] or 0.0) > _CHANGED:
        found.append(Diagnosis(
            "mode bug", worst, f"In arm {worst!r} something random is at work in evaluation, most likely dropout.",
            f"outputs change by {100 * (changes[worst] or 0.0):.2g} % from one evaluation to the next; "
            f"{_both_modes(evidence, arms[worst])}",
            "Pass training=self.training to F.dropout, or use dk.nn.Dropout, and look for a train() that is called or "
            "overridden on the way to evaluation; `dropkit audit` names the line."))
    for arm in evidence.dropping[:1]:
        noise = [max(measured(run, "mask_noise"), default=None) for run in evidence.runs[arm.name]]
        all_or_nothing = all(site.p in (0, 1) for site in arm.sites)  # then no two masks differ
        if noise and arm.recipe.schedule is None and not all_or_nothing and all(value == 0 for value in noise):
            found.append(Diagnosis(
                "mode bug", arm.name, f"The dropout of arm {arm.name!r} never acts in training, though its rates are above 0.",
                f"gradients are the same to the bit whatever the mask; {_both_modes(evidence, arm)}",
                "Look for F.dropout(..., training=False), an eval() inside the model, or a site that the forward does not "
                "reach; `dropkit audit` names it."))
    return found


def misplaced(evidence: Evidence) -> list[Diagnosis]:
    """Sites that shift the variance at a BatchNorm, or that drop the network's outputs."""
    return [found for arm in evidence.strongest for found in [*_shifted(evidence, arm), *_on_the_output(evidence, arm)]]


def too_weak(evidence: Evidence) -> list[Diagnosis]:
    """The strongest arm, where its masks add next to no noise and the gap is that of the arm without dropout."""
    plain, found = evidence.plain, []
    for arm in evidence.strongest if plain is not None else []:
        assert plain is not None
        ratio = evidence.mask_to_data(arm)
        own, other = (evidence.over_seeds(each, lambda run: run.gap) for each in (arm, plain))
        if ratio is None or not 0 < ratio < WEAK or own is None or other is None:
            continue
        if abs(own - other) < evidence.summary.margin:
            found.append(Diagnosis(
                "rate too low", arm.name, f"The rates of arm {arm.name!r} are too low to matter.",
                f"masks add {100 * ratio:.2g} % of the gradient noise that the data bring; "
                f"gap {signed(evidence.summary, own)}, {amount(evidence.summary, own - other)} from that of {plain.name!r}",
                "Raise the rates, to 0.2 or more in a hidden layer, or leave dropout out."))
    return found


def dead_units(evidence: Evidence) -> list[Diagnosis]:
    """Arms in which a layer reads many units that are always zero, by the worst layer."""
    found = []
    for arm in evidence.result.arms:
        layers = evidence.layers(arm, "dead")
        worst = max(layers, key=layers.__getitem__, default=None)
        if worst is not None and layers[worst] >= _DEAD:
            without = evidence.layers(arm, "no_gradient")
            shares = ", ".join(f"{100 * share:.2g} % of {layer!r}" for layer, share in without.items() if share > 0)
            found.append(Diagnosis(
                "dead units", arm.name,
                f"In arm {arm.name!r} many of the units that layer {worst!r} reads are dead: zero for every example.",
                f"{100 * layers[worst]:.2g} % of them; units without a gradient: {shares or 'none'}",
                "Lower the learning rate, initialise the layers before a ReLU by He's rule, or use a leaky activation; a "
                "narrower layer would do as well as it stands."))
    return found


def _not_the_studys(evidence: Evidence, plain: Arm, changes: Mapping[str, float | None]) -> Diagnosis:
    """What is random in evaluation where every rate that the study sets is 0."""
    also = [f"{100 * value:.2g} % in {name!r}" for name, value in changes.items() if value is not None]
    everywhere = all((value or 0.0) > _CHANGED for value in changes.values())
    where = "in every arm, also" if everywhere else "also"
    return Diagnosis(
        "mode bug", plain.name,
        f"Something random is at work in evaluation, {where} in {plain.name!r}, where every rate of the study is 0: a call of "
        "dropout or a noise that the study does not set.",
        f"outputs change from one evaluation to the next by {', '.join(also)}; {_both_modes(evidence, plain)}",
        "Look for F.dropout without training=self.training, and for noise that the forward draws in evaluation, too, such as "
        "torch.randn_like; draw it only `if self.training`. `dropkit audit` names lines that drop.")


def _shifted(evidence: Evidence, arm: Arm) -> list[Diagnosis]:
    shifts = evidence.layers(arm, "variance_shift")
    wrong = {layer: shift for layer, shift in shifts.items() if not _SHIFT[0] <= shift <= _SHIFT[1]}
    if not wrong:
        return []
    worst = max(wrong, key=lambda layer: max(wrong[layer], 1 / wrong[layer]) if wrong[layer] > 0 else float("inf"))
    return [Diagnosis(
        "misplaced", arm.name,
        f"In arm {arm.name!r} dropout before BatchNorm {worst!r} shifts the variance that it was trained on.",
        f"variance of its input in training over evaluation: {wrong[worst]:.2f}"
        + (f"; {len(wrong)} of {len(shifts)} BatchNorms lie outside {_SHIFT[0]:g} to {_SHIFT[1]:g}" if len(shifts) > 1 else ""),
        "Move the site behind the last BatchNorm, or lower its rate; `dropkit audit` names the site.")]


def _on_the_output(evidence: Evidence, arm: Arm) -> list[Diagnosis]:
    share = evidence.over_seeds(arm, lambda run: middle(measured(run, "output_zeros")))
    lowest = min((site.p for site in arm.sites if site.p > 0), default=1.0)
    if share is None or share < lowest / 2:
        return []
    return [Diagnosis(
        "misplaced", arm.name, f"A site of arm {arm.name!r} drops the network's outputs.",
        f"{100 * share:.2g} % of the outputs are exactly zero in training and not in evaluation",
        "Take the dropout behind the last layer away: it puts noise on the predictions and regularises nothing before it.")]


def _both_modes(evidence: Evidence, arm: Arm) -> str:
    training, evaluated = (evidence.over_seeds(arm, look) for look in
                           (lambda run: run.train_loss, lambda run: run.train_eval_loss))
    if training is None or evaluated is None:
        return "the runs diverged"
    return f"training loss {training:.3g} in training mode and {evaluated:.3g} in evaluation"
