"""Turn a study's result into one HTML file that needs no network and no other file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dropkit.core.files import write_atomically
from dropkit.report import blocks, look, tables, words
from dropkit.report.extras import load
from dropkit.report.numbers import Scale
from dropkit.study.diagnose import grouped
from dropkit.study.result import HELPS, HURTS, INCONCLUSIVE, LEANING, SAME, StudyResult

TEMPLATES = Path(__file__).parent / "templates"
BADGES = {HELPS: ("helps", "▲"), HURTS: ("hurts", "▼"), SAME: ("same", "="), INCONCLUSIVE: ("open", "?"),
          LEANING: ("lean", "~")}  # the class that colours it, and a sign for who cannot see the colour
LONG = 12  # rows from which a table starts folded


def render(result: StudyResult) -> str:
    """Return the report of a study as HTML.

    The page holds plotly's JavaScript, its styles and every figure's numbers; it loads nothing. Every text that comes from the
    study is escaped. The same result gives the same page.

    Args:
        result: the study, from `dropkit.study` or `dropkit.study.result.load_result`.

    Returns:
        A whole HTML document.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    page: str = environment().get_template("page.html").render(plotly=plotly_source(), **_context(result))
    return page.encode("utf-8", "replace").decode("utf-8")  # a command line may hold bytes that are no text


def environment() -> Any:
    """Return jinja2's environment over the report's templates: every value is escaped, a missing one is an error."""
    jinja2 = load("jinja2")
    return jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)


def plotly_source() -> Any:
    """Return plotly's JavaScript as text that is not escaped."""
    return load("markupsafe").Markup(load("plotly.offline").get_plotlyjs())


def write_report(result: StudyResult, path: str | os.PathLike[str]) -> Path:
    """Write the report of a study to an HTML file, whole or not at all.

    Args:
        result: the study.
        path: the file to make or replace, or a folder, which then gets ``report.html``; missing folders are made.

    Returns:
        The file written.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
        OSError: the file cannot be written.
    """
    target = Path(path)
    target = target / "report.html" if target.is_dir() else target
    page = render(result)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(target, page)


def _context(result: StudyResult) -> dict[str, Any]:
    sections = blocks.sections(result)
    badge, sign = BADGES.get(result.verdict.kind, ("open", "?"))
    return {
        "result": result, "summary": result.summary, "verdict": result.verdict,
        "badge": badge, "sign": sign, "effect": _effect(result),
        "facts": tables.facts(result), "sections": sections,
        "drawings": {plot.id: plot.drawing for section in sections for block in section.blocks for plot in block.plots},
        "arms_table": tables.arms(result), "contrasts_table": tables.contrasts(result),
        "effects_table": tables.effects(result),
        "sites_table": tables.sites(result), "runs_table": tables.runs(result), "long": LONG,
        "cost_table": tables.cost(result), "diagnoses": grouped(result.diagnoses),
        "reproduction": tables.reproduction(result), "diverged_note": words.diverged_note(result).strip(),
        "margin": Scale.of(result.summary).amount(result.summary.margin),
        "names": look.short_names([arm.name for arm in result.arms], 60), "intervals": words.has_intervals(result),
        "swatches": [(look.marker(index), look.colour(index)) for index in range(len(result.arms))],
    }


def _effect(result: StudyResult) -> dict[str, str] | None:
    contrast = words.headline(result)
    if contrast is None:
        return None
    scale = Scale.of(result.summary)
    return {"arm": contrast.arm, "reference": contrast.reference, "mean": scale.difference(contrast.mean),
            "interval": "" if contrast.low is None else scale.interval(contrast.low, contrast.high),
            "seeds": words.counted(len(contrast.seeds), "seed")}
