"""Two studies side by side: what differs between them, and how far their scores and effects lie apart."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.core.files import write_atomically
from dropkit.report import look, tables
from dropkit.report.blocks import Block, Plot, drawing
from dropkit.report.numbers import Scale, mean
from dropkit.report.page import BADGES, environment, plotly_source
from dropkit.report.rows import Row, rows_figure
from dropkit.report.tables import Table
from dropkit.report.words import counted
from dropkit.study.result import StudyResult

_FACTS = ("name", "data", "data_hash", "task", "metric", "margin", "loss", "optimizer", "epochs", "batch_size", "n_train",
          "n_val", "n_test", "n_parameters", "model")


@dataclass(frozen=True)
class Difference:
    """How far an arm's scores lie apart in two studies: the second's minus the first's, turned so that positive is better.

    ``seeds`` and ``differences`` are empty where the runs are not paired.
    """

    arm: str
    seeds: list[int]
    differences: list[float]
    mean: float
    low: float | None
    high: float | None


def differences(first: StudyResult, second: StudyResult) -> list[Difference]:
    """Compare the arms that two studies share.

    With the same data and at least one seed in common, an arm's runs are paired by seed (a seed fixes the split of the data,
    and the initial weights where the models are alike) and the interval is the paired t interval; otherwise it is Welch's.

    Args:
        first: a study.
        second: another, scored by the same metric.

    Returns:
        One entry for each arm name that both have, in the first one's order.

    Raises:
        InputError: the studies are scored by different metrics, or share no arm.
    """
    if first.summary.metric != second.summary.metric:
        raise InputError("two studies are compared by one metric",
                         got=phrase(f"{first.summary.metric} and {second.summary.metric}"),
                         fix="Run one of them again with --metric")
    shared = [arm.name for arm in first.arms if arm.name in {other.name for other in second.arms}]
    if not shared:
        raise InputError("two studies are compared arm by arm", got=phrase("no arm that both have"),
                         fix="Run both with the same arms")
    return [_difference(first, second, arm) for arm in shared]


def render_comparison(first: StudyResult, second: StudyResult, names: tuple[str, str]) -> str:
    """Return the comparison of two studies as HTML, a whole document that loads nothing.

    Args:
        first: a study.
        second: another, scored by the same metric.
        names: what to call them.
    """
    found = differences(first, second)
    blocks = [_scores_block(first, found, names), *_effects_block(first, second, names)]
    both = [(name, result, *BADGES[result.verdict.kind]) for name, result in zip(names, (first, second), strict=True)]
    page: str = environment().get_template("compare.html").render(
        plotly=plotly_source(), both=both, blocks=blocks, result=first, arms_table=_arms_table(first, second, found, names),
        facts_table=_facts_table(first, second, names), cautions=cautions(first, second, found),
        drawings={plot.id: plot.drawing for block in blocks for plot in block.plots},
        swatches=[(look.marker(index), look.colour(index)) for index in range(max(2, len(first.arms)))],
        margin=Scale.of(first.summary).amount(first.summary.margin), intervals=any(item.low is not None for item in found))
    return page.encode("utf-8", "replace").decode("utf-8")


def write_comparison(first: StudyResult, second: StudyResult, path: str | os.PathLike[str]) -> Path:
    """Write the comparison of two studies to an HTML file, whole or not at all, and return the path.

    Args:
        first: a study.
        second: another, scored by the same metric.
        path: the file to make or replace.

    Raises:
        InputError: the studies cannot be compared.
        MissingExtraError: plotly or jinja2 is not installed.
    """
    page = render_comparison(first, second, study_names(first, second))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(target, page)


def study_names(first: StudyResult, second: StudyResult) -> tuple[str, str]:
    """Return names that tell two studies apart: their own, their folders', or their numbers."""
    for pair in ((first.summary.name, second.summary.name), (Path(first.out).name, Path(second.out).name),
                 (first.out, second.out)):
        if pair[0] != pair[1] and all(pair):
            return pair
    return f"{first.summary.name} (1)", f"{second.summary.name} (2)"


def cautions(first: StudyResult, second: StudyResult, found: list[Difference]) -> list[str]:
    """Say what weakens the comparison."""
    said = []
    if first.summary.data_hash != second.summary.data_hash:
        said.append("The studies were made on different data, or on other parts of it: their scores were taken on different "
                    "examples, so the difference between them is not one between models alone.")
    elif not found[0].seeds:
        said.append("The studies share no seed: runs are not paired, and the intervals are wider than they need be.")
    if first.provenance.versions.get("torch") != second.provenance.versions.get("torch"):
        said.append("The studies were made with different versions of PyTorch.")
    if len(found) > 1:
        said.append(f"The intervals are 95 % each, not corrected for the {len(found)} arms compared.")
    return said


def _difference(first: StudyResult, second: StudyResult, arm: str) -> Difference:
    from dropkit.study.statistics import paired_t, welch

    sign = 1.0 if first.summary.higher_is_better else -1.0
    scores = [{run.seed: run.test_metric for run in result.of_arm(arm)} for result in (first, second)]
    seeds = sorted(set(scores[0]) & set(scores[1])) if first.summary.data_hash == second.summary.data_hash else []
    if seeds:
        apart = [sign * (scores[1][seed] - scores[0][seed]) for seed in seeds]
        estimate = paired_t(apart)
        return Difference(arm, seeds, apart, estimate.mean, estimate.low, estimate.high)
    turned = [[sign * value for value in of_study.values()] for of_study in scores]
    estimate = welch(turned[1], turned[0])
    return Difference(arm, [], [], estimate.mean, estimate.low, estimate.high)


def _scores_block(first: StudyResult, found: list[Difference], names: tuple[str, str]) -> Block:
    scale = Scale.of(first.summary)
    labels = look.short_names([item.arm for item in found])
    rows = [Row(label, index, item.differences, item.seeds, item.mean, item.low, item.high)
            for index, (label, item) in enumerate(zip(labels, found, strict=True))]
    told = "; ".join(f"{item.arm} {scale.difference(item.mean)} [{scale.interval(item.low, item.high)}]" for item in found)
    short = [look.label(look.shorten(name, 20)) for name in names]
    figure = rows_figure(rows, scale, first.summary.margin, (f"← {short[0]} better", f"{short[1]} better →"))
    caption = (f"Each arm's test {first.summary.metric} in {names[1]} minus that in {names[0]}, turned so that right is "
               f"better, with its 95 % interval, {'paired by seed' if found[0].seeds else 'from separate runs'}.")
    return Block("scores-apart", "The same arm in both", caption,
                 [Plot("plot-scores-apart", f"Differences in test {first.summary.metric}: {told}.", drawing(figure))], "forest")


def _effects_block(first: StudyResult, second: StudyResult, names: tuple[str, str]) -> list[Block]:
    scale, rows = Scale.of(first.summary), []
    for contrast in first.contrasts:
        for index, result in enumerate((first, second)):
            same = [item for item in result.contrasts if (item.arm, item.reference) == (contrast.arm, contrast.reference)]
            rows += [Row(f"{look.shorten(item.arm)} in {look.shorten(names[index], 24)}", index, item.differences, item.seeds,
                         item.mean, item.low, item.high) for item in same]
    if not rows:
        return []
    told = "; ".join(f"{row.name} {scale.difference(row.mean)}" for row in rows)
    plot = Plot("plot-effects", f"Effects within each study: {told}.",
                drawing(rows_figure(rows, scale, first.summary.margin, ("← worse", "better →"))))
    return [Block("effects", "The effect within each study",
                  "What an arm changes against its reference, in the one study and in the other.", [plot], "forest")]


def _arms_table(first: StudyResult, second: StudyResult, found: list[Difference], names: tuple[str, str]) -> Table:
    scale = Scale.of(first.summary)
    rows = []
    for index, item in enumerate(found):
        means = [scale.value(mean(run.test_metric for run in result.of_arm(item.arm)
                                  if not item.seeds or run.seed in item.seeds)) for result in (first, second)]
        rows.append(tables.Row(item.arm, index, [*means, scale.difference(item.mean), scale.interval(item.low, item.high)]))
    return Table(f"Mean test {scale.metric}", ["arm", *names, "difference", "95 % interval"], rows,
                 f"Positive differences mean that {names[1]} is better."
                 + (f" Over the {counted(len(found[0].seeds), 'seed')} that both have." if found[0].seeds else ""))


def _facts_table(first: StudyResult, second: StudyResult, names: tuple[str, str]) -> Table:
    facts = [asdict(result.summary) for result in (first, second)]
    rows = [tables.Row(name.replace("_", " "), None, [_told(fact[name]) for fact in facts])
            for name in _FACTS if facts[0][name] != facts[1][name]]
    for name in sorted({*first.provenance.versions, *second.provenance.versions}):
        versions = [result.provenance.versions.get(name, "not there") for result in (first, second)]
        rows += [tables.Row(name, None, versions)] if versions[0] != versions[1] else []
    seeds = [", ".join(map(str, result.seeds)) for result in (first, second)]
    rows += [tables.Row("seeds", None, seeds)] if seeds[0] != seeds[1] else []
    return Table("What differs", ["", *names], rows, "" if rows else "Nothing in the set-up.")


def _told(value: Any) -> str:
    lines = str(value).splitlines() or [""]
    return lines[0] if len(lines) == 1 else f"{len(lines)} modules"
