"""The page's figures in their order: which there are, what stands above each, and what it says when it cannot be seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dropkit.report import calibration, curves, figures, instruments, look, rates, readings, tuning, words
from dropkit.report.curves import Measure
from dropkit.report.numbers import known
from dropkit.study.effects import effects
from dropkit.study.result import StudyResult

PANELS = 12  # figures of one arm each; a study of more arms shows these few and tabulates all


@dataclass(frozen=True)
class Plot:
    """A drawing: its place's id, its alternative text, plotly's JSON, and the number of the arm it is about, if one."""

    id: str
    alt: str
    drawing: dict[str, Any]
    arm: int | None = None


@dataclass(frozen=True)
class Block:
    """A figure of the page: one drawing or one an arm, under a heading and a caption.

    ``key`` names what its legend lists: ``"arms"`` (buttons that hide and show), ``"kinds"`` (what the dashes mean),
    ``"forest"`` or nothing.
    """

    id: str
    title: str
    caption: str
    plots: list[Plot]
    key: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page with figures: its id, heading and blocks; two blocks stand side by side where there is room."""

    id: str
    title: str
    blocks: list[Block]


def sections(result: StudyResult) -> list[Section]:
    """Build every section that the result has something to show in.

    Args:
        result: the study.
    """
    found = [
        Section("scores", "Scores", _scores(result)),
        Section("learning", "Learning", _learning(result)),
        Section("gap", "Generalisation gap", _gap(result)),
        Section("rates", "Rates", _rates(result)),
        Section("calibration", "Calibration", _calibration(result)),
        Section("instruments", "Inside the networks", _instruments(result)),
        Section("tuning", "Tuning", _tuning(result)),
    ]
    return [section for section in found if section.blocks]


def shown_arms(result: StudyResult) -> list[int]:
    """Return the numbers of the arms that get a figure of their own: all, or the first few with the verdict's among them."""
    arms = list(range(len(result.arms)))
    if len(arms) <= PANELS:
        return arms
    first = [index for index, arm in enumerate(result.arms) if arm.name == result.verdict.arm]
    return sorted([*first, *(index for index in arms if index not in first)][:PANELS])


def _scores(result: StudyResult) -> list[Block]:
    metric = look.shorten(result.summary.metric, 40)
    blocks = []
    if known(run.test_metric for run in result.runs):
        plot = Plot("plot-paired", words.paired_alt(result), drawing(figures.paired(result)))
        blocks.append(Block("paired", f"Test {metric} of every run", words.paired_caption(result), [plot]))
    if result.contrasts:
        plot = Plot("plot-forest", words.forest_alt(result), drawing(figures.forest(result)))
        blocks.append(Block("forest", f"Difference in test {metric}", words.forest_caption(result), [plot], "forest"))
    found = effects(result)
    if found:
        plot = Plot("plot-effects", words.effects_alt(result, found), drawing(figures.effects(result, found)))
        blocks.append(Block("effects", "What each change is worth", words.effects_caption(found), [plot], "forest"))
    return blocks


def _learning(result: StudyResult) -> list[Block]:
    measures: list[Measure] = [measure for measure in ("loss", "metric") if _has_history(result, measure)]
    overlays, panels = [], []
    for measure in measures:
        name = "loss" if measure == "loss" else look.shorten(result.summary.metric, 40)
        plot = Plot(f"plot-val-{measure}", words.validation_alt(result, measure), drawing(curves.validation(result, measure)))
        overlays.append(Block(f"val-{measure}", f"Validation {name}", words.curves_caption(result, one_arm=False), [plot],
                              "arms"))
        panels.append(_each_arm(result, f"learning-{measure}", f"Training and validation {name}, arm by arm",
                                words.curves_caption(result, one_arm=True), "kinds",
                                partial(curves.learning, measure=measure), partial(words.learning_alt, measure=measure)))
    return [*overlays, *panels]


def _gap(result: StudyResult) -> list[Block]:
    if not known(run.gap for run in result.runs):
        return []
    plot = Plot("plot-gap", words.gap_alt(result), drawing(figures.gap(result)))
    return [Block("gap-by-arm", f"Gap in {look.shorten(result.summary.metric, 40)}", words.gap_caption(result), [plot])]


def _rates(result: StudyResult) -> list[Block]:
    metric = look.shorten(result.summary.metric, 40)
    blocks: list[Block] = []
    if rates.sweep(result):
        plot = Plot("plot-rates", readings.rates_alt(result), drawing(rates.rate_curve(result)))
        blocks.append(Block("rate-curve", f"Test {metric} against the rate", readings.rates_caption(result), [plot]))
    if rates.kept(result):
        plot = Plot("plot-sites", readings.sites_alt(result), drawing(rates.worth(result)))
        blocks.append(Block("site-panel", "Which site earns its dropout", readings.sites_caption(result), [plot]))
    return blocks


def _instruments(result: StudyResult) -> list[Block]:
    arms = shown_arms(result)
    blocks: list[Block] = []
    for name in instruments.scalars(result):
        drawn = instruments.over_training(result, name, arms, readings.axis_of(name))
        plot = Plot(f"plot-inside-{len(blocks)}", readings.scalar_alt(result, name), drawing(drawn))
        blocks.append(Block(f"inside-{len(blocks)}", readings.title_of(name), readings.scalar_caption(name), [plot], "arms"))
    for name in instruments.by_layer(result):
        drawn = instruments.across_layers(result, name, arms, readings.axis_of(name))
        plot = Plot(f"plot-inside-{len(blocks)}", readings.layers_alt(result, name), drawing(drawn))
        blocks.append(Block(f"inside-{len(blocks)}", readings.title_of(name), readings.layers_caption(result, name), [plot],
                            "arms"))
    if instruments.has_ablations(result):
        plot = Plot("plot-ablation", readings.ablation_alt(result), drawing(instruments.ablations(result, arms)))
        blocks.append(Block("ablation", "Ablation", readings.ABLATION, [plot], "arms"))
    return blocks


def _calibration(result: StudyResult) -> list[Block]:
    if not any(calibration.has_reliability(result, arm.name) for arm in result.arms):
        return []
    return [_each_arm(result, "reliability", "Reliability: accuracy against confidence", words.reliability_caption(result), "",
                      calibration.reliability, words.reliability_alt, calibration.has_reliability)]


def _tuning(result: StudyResult) -> list[Block]:
    found = result.tuning
    if found is None:
        return []
    plots = [Plot(f"plot-tuning-{index}", tuning.scores_alt(found, group),
                  drawing(tuning.score_against_rate(result, found, group)))
             for index, group in enumerate(tuning.shown_groups(found))]
    blocks = [Block("tuning-scores", "Validation score of every setting", tuning.scores_caption(found), plots)]
    if found.importances:
        plot = Plot("plot-importance", tuning.importance_alt(found), drawing(tuning.importance(found)))
        blocks.append(Block("importance", "Which rate mattered", tuning.importance_caption(), [plot]))
    return blocks


def _each_arm(result: StudyResult, name: str, title: str, caption: str, key: str, draw: Callable[[StudyResult, str], Any],
              tell: Callable[[StudyResult, str], str],
              wanted: Callable[[StudyResult, str], bool] = lambda result, arm: True) -> Block:
    arms = shown_arms(result)
    if len(arms) < len(result.arms):
        caption += f" {len(arms)} of {len(result.arms)} arms are drawn; the tables hold all."
    named = [(index, result.arms[index].name) for index in arms]
    plots = [Plot(f"plot-{name}-{index}", tell(result, arm), drawing(draw(result, arm)), index)
             for index, arm in named if wanted(result, arm)]
    return Block(name, title, caption, plots, key)


def _has_history(result: StudyResult, measure: Measure) -> bool:
    return any(known(run.history.get(f"{kind}_{measure}", [])) for run in result.runs for kind in curves.DASHES)


def drawing(figure: Any) -> dict[str, Any]:
    """Return plotly's own JSON of a figure, less the empty template that every figure carries."""
    made: dict[str, Any] = json.loads(figure.to_json())
    made["layout"].pop("template", None)
    return made
