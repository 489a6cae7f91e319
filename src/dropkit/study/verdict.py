"""The answer in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dropkit.core.errors import InputError
from dropkit.study.asides import site_words, sweep_words
from dropkit.study.contrasts import FIRM_SEEDS, LEVEL, LIMIT, reference_of
from dropkit.study.result import HELPS, HURTS, INCONCLUSIVE, LEANING, NO_DIFFERENCE, SAME, Arm, Contrast, Summary, Verdict
from dropkit.study.subjects import against, arm_words, asks_dropout, subject
from dropkit.study.wording import amount, count, interval, margin_words

_TEXT = {HELPS: ("help", "helps"), HURTS: ("hurt", "hurts"), SAME: ("make no difference", "makes no difference"),
         INCONCLUSIVE: ("stay inconclusive", "stays inconclusive")}


def judge(summary: Summary, arms: Sequence[Arm], contrasts: Sequence[Contrast]) -> Verdict:
    """Answer the study's question in words.

    Judged are the arms that are compared with the study's reference: the intended one, or the last where none is called so,
    unless arms help: then the one of them with the largest mean difference. Where that is not the intended arm, the sentence
    says so. Of arms that leave out sites another sentence says which sites earn their keep, and of several rates the next step
    names the best with its noise.

    Args:
        summary: the metric, its direction and unit, and the margin.
        arms: every arm with its rates, the reference among them.
        contrasts: what `contrasts` returned.

    Returns:
        The verdict: sentence, next step, and the setting to paste. The setting is the judged arm's where that arm helps;
        the reference's where it hurts or makes no difference; the one with the better mean while the matter is open.

    Raises:
        InputError: there is nothing to compare, or a contrast names an unknown arm.
    """
    by_name = {arm.name: arm for arm in arms}
    if not contrasts or any({found.arm, found.reference} - set(by_name) for found in contrasts):
        raise InputError("a verdict needs contrasts between the arms given", got=[found.arm for found in contrasts],
                         fix=f"Compare at least two of the arms {', '.join(by_name) or '(none given)'}")
    order = [arm.name for arm in arms]
    main = [found for found in contrasts if found.reference == reference_of(arms)] or list(contrasts)
    intended = max(main, key=lambda found: (found.arm == "intended", order.index(found.arm)))
    helpers = [found for found in main if found.kind == HELPS]
    chosen = max(helpers, key=lambda found: (found.mean, order.index(found.arm)), default=intended)
    better = chosen.kind not in (HURTS, SAME) and chosen.leaning == HELPS
    setting = by_name[chosen.arm if better else chosen.reference]
    return Verdict(
        kind=chosen.kind, arm=setting.name, setting=_setting(setting),
        sentence=_joined(_sentence(summary, by_name, chosen, intended, helpers), site_words(summary, by_name, contrasts)),
        next_step=_joined(_next_step(summary, by_name, chosen, intended), sweep_words(summary, by_name, main)),
        judged=chosen.arm)


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _sentence(summary: Summary, arms: Mapping[str, Arm], chosen: Contrast, intended: Contrast,
              helpers: Sequence[Contrast]) -> str:
    about, effect = subject(arms, chosen), _effect(summary, arms, chosen)
    n, after = len(chosen.seeds), _others(summary, chosen, intended, helpers)
    if chosen.kind == HELPS:
        rates_matter = asks_dropout(arms, chosen) and intended.kind != HELPS and intended.arm == "intended"
        only = ", but not at the intended rates" if rates_matter else ""
        return f"{about} helps{only}: {effect} {_evidence(summary, chosen)}{after}."
    if chosen.kind == HURTS:
        return f"{about} hurts: {effect} {_evidence(summary, chosen)}."
    if chosen.kind == SAME:
        small = "; it is consistent, but too small to matter" if (chosen.p_holm or 0) < LEVEL and chosen.mean else ""
        return (f"No meaningful difference: {effect} {_evidence(summary, chosen)}, "
                f"within the margin of {margin_words(summary)}{small}.")
    if chosen.kind == LEANING:
        towards = "neither way" if chosen.leaning == NO_DIFFERENCE else f"towards {chosen.leaning}"
        return (f"Cannot tell with {count(n, 'seed')}: {effect}{_interval(summary, chosen, ' (', ')')}, "
                f"leaning {towards}; a verdict needs at least {FIRM_SEEDS}.")
    return f"Inconclusive: {effect} {_evidence(summary, chosen)}{_doubt(chosen)}; {_to_settle(chosen)}."


def _others(summary: Summary, chosen: Contrast, intended: Contrast, helpers: Sequence[Contrast]) -> str:
    """Say what a reader of the chosen arm should know of the others: the intended one, and close seconds."""
    close = [found for found in helpers if found is not chosen and chosen.mean - found.mean < summary.margin]
    said = [f"{arm_words(found.arm)} {_verb(found.arm, HELPS)} nearly as much ({amount(summary, found.mean)})"
            for found in close]
    if intended is not chosen and intended not in close:
        less = f" less ({amount(summary, intended.mean)})" if intended.kind == HELPS else ""
        said.append(f"{arm_words(intended.arm)} {_verb(intended.arm, intended.kind)}{less}")
    return "".join(f"; {words}" for words in said)


def _next_step(summary: Summary, arms: Mapping[str, Arm], chosen: Contrast, intended: Contrast) -> str:
    plain = asks_dropout(arms, chosen)
    stay = "Train without dropout" if plain else f"Stay with arm {chosen.reference!r}"
    better = ("The means are level: if a choice is due now, choose by cost." if chosen.leaning == NO_DIFFERENCE else
              "If a choice is due now, the setting shown has the better mean.")
    if chosen.kind == HELPS:
        return _use(arms, chosen, intended)
    if chosen.kind == HURTS:
        return f"{stay}." + (" If the model overfits, study lower rates or weight decay." if plain else "")
    if chosen.kind == SAME:
        return f"Choose by cost or calibration instead of test {summary.metric}. {stay} if neither matters."
    if chosen.kind == LEANING:
        return f"Run the same study with 8 seeds (--seeds 8); finished runs are kept. {better}"
    if chosen.seeds_to_settle is None:
        return f"Choose by cost or calibration, or score on a larger test set: seeds alone will not settle it. {better}"
    n = chosen.seeds_to_settle
    return f"Run the same study with {n} seeds (--seeds {n}); finished runs are kept. {better}"


def _use(arms: Mapping[str, Arm], chosen: Contrast, intended: Contrast) -> str:
    if chosen is not intended:
        than = "the intended ones" if intended.arm == "intended" else f"those of arm {intended.arm!r}"
        return (f"Use the setting shown instead of {than}. Confirm it with fresh seeds: "
                "the best of several arms looks better than it is.")
    rates = {name: sum(site.p for site in arm.sites) / max(len(arm.sites), 1) for name, arm in arms.items()}
    plain = asks_dropout(arms, chosen)
    most = plain and rates[chosen.arm] == max(rates.values())
    return "Keep the setting shown." + (" No higher rates were tried; a study of them may find more." if most else "")


def _effect(summary: Summary, arms: Mapping[str, Arm], found: Contrast) -> str:
    start = f"with {arm_words(found.arm)}, test {summary.metric} is"
    if found.leaning == NO_DIFFERENCE:
        return f"{start} the same as {against(arms, found)}"
    return f"{start} {amount(summary, found.mean)} {_ways(summary, found)[1]} than {against(arms, found)}"


def _ways(summary: Summary, found: Contrast) -> tuple[str, str]:
    """The words for a difference against the one found and along with it; where there is none, for a worse and a better."""
    ways = "lower", "higher"
    return ways if (found.leaning != HURTS) == summary.higher_is_better else ways[::-1]


def _evidence(summary: Summary, found: Contrast) -> str:
    return f"({_interval(summary, found, '', ', ')}{count(len(found.seeds), 'paired seed')})"


def _interval(summary: Summary, found: Contrast, before: str, after: str) -> str:
    if found.low is None or found.high is None:
        return ""
    # Read along with "higher" or "lower", the interval counts in the direction that the sentence names.
    low, high = (found.low, found.high) if found.leaning != HURTS else (-found.high, -found.low)
    return f"{before}95 % interval {interval(summary, low, high, *_ways(summary, found))}{after}"


def _doubt(found: Contrast) -> str:
    uncorrected = found.p_t is not None and found.p_t < LEVEL
    return ", a difference that does not survive the correction for several arms" if uncorrected else ""


def _to_settle(found: Contrast) -> str:
    n = found.seeds_to_settle
    return f"more than {LIMIT} seeds would be needed to settle it" if n is None else f"about {n} seeds would settle it"


def _setting(arm: Arm) -> str:
    arguments = {site.name: float(site.p) for site in arm.sites if site.kind == "argument"}
    rates = {site.name: float(site.p) for site in arm.sites if site.kind != "argument"}
    code = []
    if arguments:
        code.append(f"build({', '.join(f'{name}={p!r}' for name, p in arguments.items())})")
    if rates:
        pairs = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {p!r}" for name, p in rates.items())
        shared = len(set(rates.values())) == 1
        code.append(f"dk.set_rate(model, {next(iter(rates.values()))!r})" if shared else
                    f"dk.set_rate(model, {{{pairs}}})")
    words = arm.recipe.words()
    return ("; ".join(code) or f"# arm {arm.name!r} sets no dropout rate") + (f"  # with {words}" if words else "")


def _verb(name: str, kind: str) -> str:
    return _TEXT[kind][0 if name in ("intended", "reduced") else 1] if kind in _TEXT else "gave no verdict"
