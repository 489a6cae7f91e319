"""Changes of a recipe that act in every step: smoothed targets, rates that move."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.schedules.base import Schedule
from dropkit.schedules.text import parse
from dropkit.study.positions import rows
from dropkit.study.result import Arm
from dropkit.surgery.rates import set_all
from dropkit.surgery.sites import sites


def objective_of(loss: Callable[[Tensor, Tensor], Tensor], smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what is minimised: the loss itself, or cross entropy against smoothed targets.

    With K classes a target is 1 - s + s / K for its class and s / K for the others.

    Args:
        loss: the experiment's; cross entropy where ``smoothing`` is above 0.
        smoothing: s, in [0, 1).
    """
    if smoothing == 0:
        return loss
    return lambda outputs, targets: F.cross_entropy(*rows(outputs, targets), label_smoothing=smoothing)


class MovingRates:
    """Rates of an arm times a schedule. They are a function of the step alone, so that a resumed run needs no state of them.

    Args:
        model: the arm's network.
        arm: its rates, and its recipe with the schedule.
        steps: of the whole run; schedules that stretch over it do so over this many.

    Example:
        >>> from dropkit.study.recipe import Recipe
        >>> from dropkit.study.result import SiteRate
        >>> model = nn.Sequential(nn.Dropout(0.4))
        >>> arm = Arm("late", "", [SiteRate("0", "dropout", 0.4)], Recipe(schedule="linear(0, 1)"))
        >>> MovingRates(model, arm, steps=10).set(5)
        >>> model[0].p
        0.2
    """

    def __init__(self, model: nn.Module, arm: Arm, steps: int) -> None:
        self.base = {site.name: site.p for site in arm.sites}
        self.schedule: Schedule = parse(arm.recipe.schedule or "1.0").over(max(steps, 1))
        self.sites = {site.name: site for site in sites(model) if site.name in self.base and site.settable}

    def set(self, step: int) -> None:
        """Set the rates of ``step``, counted from 0."""
        factor = self.schedule(step)
        rates = {name: factor * self.base[name] for name in self.sites}
        set_all(self.sites, rates, self.base)
