"""What a study with many arms shows besides its verdict: which rate is best, and which site earns its keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dropkit.study.contrasts import LEVEL
from dropkit.study.result import HELPS, HURTS, SAME, Arm, Contrast, Summary
from dropkit.study.statistics import holm, paired_t
from dropkit.study.subjects import left_out
from dropkit.study.wording import amount, interval

_SWEEP = 4  # fewest settings of the rates, the reference among them, that make a sweep


def sweep_words(summary: Summary, arms: Mapping[str, Arm], found: Sequence[Contrast]) -> str:
    """Name the best of several rates with its noise, and those that cannot be told from it; nothing without a sweep.

    The best one's lead over each other rate is tested, paired by seed and corrected by Holm. It was chosen by its mean, which
    flatters it.

    Args:
        summary: the metric and its unit.
        arms: by name.
        found: contrasts with one common reference.
    """
    plain = [one for one in found if not arms[one.arm].recipe.changes() and not left_out(arms, one)]
    if not plain or len(plain) + 1 < _SWEEP or arms[plain[0].reference].recipe.changes():
        return ""
    seeds = plain[0].seeds
    values = {plain[0].reference: [0.0] * len(seeds)} | {one.arm: one.differences for one in plain if one.seeds == seeds}
    best, *others = sorted(values, key=lambda name: -sum(values[name]))
    leads = {name: [ours - theirs for ours, theirs in zip(values[best], values[name], strict=True)] for name in others}
    tested = {name: paired_t(lead) for name, lead in leads.items()}
    known = [name for name in others if tested[name].p is not None]
    corrected = dict(zip(known, holm([tested[name].p or 0.0 for name in known]), strict=True))
    close = [name for name in others if corrected.get(name, 1.0) >= LEVEL]
    second = tested[others[0]]
    noise = "" if second.low is None or second.high is None else (
        f" (95 % interval {interval(summary, second.low, second.high, 'behind', 'ahead')})")
    ahead = "level with" if abs(second.mean) < 1e-12 else f"{amount(summary, second.mean)} ahead of"
    lead = f"{ahead} {others[0]!r}{noise}"
    rest = f"; within the noise of it: {', '.join(map(repr, close))}" if close else ""
    return f"Of {len(values)} settings of the rates {best!r} has the best mean, {lead}{rest}."


def site_words(summary: Summary, arms: Mapping[str, Arm], found: Sequence[Contrast]) -> str:
    """Say which sites earn their keep, by the contrasts that leave some out; nothing where there is none with a verdict.

    Args:
        summary: the metric and its unit.
        arms: by name.
        found: all contrasts.
    """
    without = [(", ".join(left_out(arms, one)), one) for one in found if left_out(arms, one)]
    said = {
        HURTS: [f"{site!r} earns its keep ({amount(summary, one.mean)} worse without it)"
                for site, one in without if one.kind == HURTS],
        HELPS: [f"{site!r} does harm ({amount(summary, one.mean)} better without it)"
                for site, one in without if one.kind == HELPS],
        SAME: [f"{site!r} makes no difference" for site, one in without if one.kind == SAME]}
    words = [word for group in said.values() for word in group]
    if not words:
        return ""
    rest = len(without) - len(words)
    return f"By site: {'; '.join(words)}" + (f"; {rest} of {len(without)} stay open." if rest else ".")
