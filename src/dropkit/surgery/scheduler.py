"""Move the rates of a model's dropout along schedules, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.notices import notify
from dropkit.core.rates import check_rate
from dropkit.schedules.base import Schedule, check_count
from dropkit.schedules.rises import MAX_RISE, RateJumpWarning, is_late_jump
from dropkit.schedules.text import read_schedule
from dropkit.surgery.rates import set_all
from dropkit.surgery.selection import block_numbers, select
from dropkit.surgery.sites import sites
from dropkit.variants.drop_path import depth_rates

Rate = Schedule | Callable[[int], float] | str | float
"""What gives the rates of a `RateScheduler`: a schedule, its text, a rate, or a function of the step."""

_KEYS = {"step", "before", "schedules", "steps", "depth", "warned"}


class RateScheduler:
    """Set the rates of a model's sites by schedules, one step after another.

    The rates of step 0 are set at once; each call of `step` goes on to the next one. The sites are those that the model has
    when the scheduler is made; sites that no pattern names are left alone. Rates are set as `dropkit.set_rate` does it: on
    dropkit's modules, where compiled code follows without being compiled again, and on torch's own dropout, attention and
    recurrent modules.

    Args:
        model: any module.
        schedule: a schedule, its text such as ``"cosine(0.5, 0.1)"``, a rate, or any function of the step; or several of
            them by pattern. Where several patterns match a site the last one counts.
        where: which sites, as a pattern or several: a site's name, a kind such as ``"drop_path"``, or a glob of names. A name
            counts above a glob. ``"kind:dropout"`` means the kind where a site has the same name.
        steps: the length of the run, for schedules that stretch over it, and to tell what is late in it.
        depth: scale the rate with depth, by a rule of `dropkit.depth_rates`: ``"paper"``, ``"linspace"`` or
            ``"zero_based"``. The sites of a pattern are counted in the order of the model; those under one module with a
            number, such as ``blocks.3``, share a block.
        max_rise: how far a rate may rise in one step late in training before a `dropkit.RateJumpWarning` is shown, once. Late
            is after the first half of ``steps``, or where it is not given everything after step 0. Default: 0.1.
        start: the step to begin with, such as where another scheduler has stopped. Default: 0.

    Raises:
        InputError: for a model without sites, a pattern that matches none, a schedule that lacks the run's length, or values
            out of range. Nothing is changed then.

    Example:
        >>> from dropkit.schedules import linear
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.AlphaDropout(0.1))
        >>> scheduler = RateScheduler(model, linear(0.0, 0.5), where="dropout", steps=10)
        >>> for _ in range(5):
        ...     scheduler.step()             # after the optimiser's
        >>> scheduler.rates, model[0].p, model[2].p
        ({'0': 0.25}, 0.25, 0.1)
        >>> scheduler.finish()
        >>> model[0].p
        0.5
    """

    def __init__(self, model: nn.Module, schedule: Rate | Mapping[str, Rate], where: str | Sequence[str] = "*", *,
                 steps: int | None = None, depth: str | None = None, max_rise: float = MAX_RISE, start: int = 0) -> None:
        self._steps = None if steps is None else check_count(steps, "steps")
        self._depth, self._max_rise = depth, check_rate(max_rise, "max_rise")
        self._step = check_count(start, "start", 0)
        self._schedules = {pattern: self._read(given) for pattern, given in _by_pattern(schedule, where).items()}
        self._groups = select(model, list(self._schedules))
        self._check_depth()
        self._warned, self._active = False, True
        rates = self._rates_at(self._step)
        self._sites = {site.name: site for site in sites(model) if site.name in rates}
        self._before = self._rates = {name: site.p for name, site in self._sites.items()}
        self._apply(rates)
        self._rates = rates

    @property
    def step_number(self) -> int:
        """The step whose rates are set, counted from 0."""
        return self._step

    @property
    def rates(self) -> dict[str, float]:
        """The rates of this step by the names of the sites."""
        return dict(self._rates)

    def step(self) -> None:
        """Go on to the next step and set its rates.

        Raises:
            InputError: after `finish`, or when a function of the step gives no rate. Nothing is changed then.
        """
        if not self._active:
            raise InputError("a scheduler that is finished takes no more steps", got=phrase(f"step {self._step + 1}"),
                             fix="Make another one, with start= where it is to go on")
        rates = self._rates_at(self._step + 1)
        self._apply(rates)
        self._warn(rates)
        self._step, self._rates = self._step + 1, rates

    def finish(self) -> None:
        """Give every site the rate that it had before; leaving a ``with`` does it, too. A second call does nothing."""
        if self._active:
            self._apply(self._before)
            self._active = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as plain numbers, words and dictionaries.

        Functions of the step that are no schedules cannot be written down and stand as None.
        """
        return {"step": self._step, "steps": self._steps, "depth": self._depth, "warned": self._warned,
                "before": dict(self._before), "schedules": self._texts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another scheduler of the same schedules and sites was saved, and set the rates of that step.

        Args:
            state: what its `state_dict` returned.

        Raises:
            InputError: for something else, or another scheduler's. Nothing is changed then.
        """
        if not isinstance(state, Mapping) or set(state) != _KEYS:
            raise InputError("a scheduler's state is what state_dict() returned", got=state, fix="Load what was saved")
        step = check_count(state["step"], "step", 0)
        self._check_same(state)
        before = {name: check_rate(rate, f"the rate of {name!r} before") for name, rate in state["before"].items()}
        rates = self._rates_at(step)
        self._apply(rates)
        self._step, self._rates, self._before = step, rates, before
        self._warned, self._active = bool(state["warned"]), True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def __repr__(self) -> str:
        given = ", ".join(f"{pattern!r}: {schedule!r}" for pattern, schedule in self._schedules.items())
        return f"RateScheduler({{{given}}}, step={self._step}, sites={len(self._rates)})"

    def _read(self, given: Any) -> Callable[[int], float]:
        if callable(given) and not isinstance(given, Schedule | type):
            return given  # type: ignore[no-any-return]
        schedule = read_schedule(given)
        return schedule if self._steps is None else schedule.over(self._steps)

    def _rates_at(self, step: int) -> dict[str, float]:
        rates = {}
        for pattern, names in self._groups.items():
            rate = check_rate(self._schedules[pattern](step), f"the rate of {pattern!r} at step {step}")
            if self._depth is None:
                rates.update(dict.fromkeys(names, rate))
            else:
                blocks = block_numbers(names)
                scaled = depth_rates(rate, max(blocks, default=0) + 1, self._depth)
                rates.update({name: scaled[block] for name, block in zip(names, blocks, strict=True)})
        return rates

    def _apply(self, rates: Mapping[str, float]) -> None:
        set_all(self._sites, rates, self._rates)

    def _warn(self, rates: Mapping[str, float]) -> None:
        if self._warned:
            return
        step = self._step + 1
        for name, rate in rates.items():
            if is_late_jump(self._rates[name], rate, step, self._steps, self._max_rise):
                self._warned = True
                notify(f"the rate of site {name!r} jumps from {self._rates[name]:g} to {rate:g} at step {step}: a model has "
                       "adapted to the noise that it saw. Let it rise over many steps, by schedules.linear, "
                       "schedules.late(..., ramp=) or schedules.warm_up, or raise max_rise.", RateJumpWarning)
                return

    def _texts(self) -> dict[str, str | None]:
        return {pattern: repr(given) if isinstance(given, Schedule) else None for pattern, given in self._schedules.items()}

    def _check_depth(self) -> None:
        if self._depth is not None:
            depth_rates(0.0, 1, self._depth)

    def _check_same(self, state: Mapping[str, Any]) -> None:
        mine = {**self.state_dict(), "before": sorted(self._before)}
        its = {**state, "before": sorted(state["before"]) if isinstance(state["before"], Mapping) else state["before"]}
        for what in ("schedules", "before", "steps", "depth"):
            if its[what] != mine[what]:
                raise InputError(f"a state is loaded by a scheduler of the same {'sites' if what == 'before' else what}, "
                                 f"here {mine[what]}", got=its[what],
                                 fix="Make it as it was made for the saved run; to go on with another schedule pass start=")


def _by_pattern(schedule: Any, where: Any) -> dict[str, Any]:
    if isinstance(schedule, Mapping):
        if where != "*":
            raise InputError("schedules by pattern say where they act", got=phrase(f"where={where!r} besides"),
                             fix="Leave where out")
        return dict(schedule)
    if not isinstance(where, str | list | tuple):
        raise InputError("where is a pattern of sites or a list of them", got=where, fix='Pass "*" for all of them')
    return dict.fromkeys([where] if isinstance(where, str) else where, schedule)
