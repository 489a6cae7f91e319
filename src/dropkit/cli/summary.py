"""A study's result in brief on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropkit.study.diagnose import grouped
from dropkit.study.effects import Effect, effects
from dropkit.study.result import Contrast, StudyResult, Summary

_WHOLE = 24  # characters of an arm's name that stay on one line where there is room for them
_GAP = 2  # characters between columns
_NARROW = 72  # characters of a line that a table needs; a terminal that has fewer wraps it


def print_summary(result: StudyResult, page: Path) -> None:
    """Print the verdict, a table of the contrasts, the cautions and findings, and where the report lies."""
    console = Console(highlight=False, soft_wrap=True, width=max(_NARROW, Console().width))
    console.print(Text(result.verdict.sentence, style="bold"))
    console.print(Text(result.verdict.next_step))
    console.print(_table(result, console.width), soft_wrap=False)
    worth = effects(result)
    if worth:
        console.print(_effects_table(worth, result.summary, console.width), soft_wrap=False)
    for caution in result.cautions:
        console.print(Text(f"Caution: {caution}"))
    for line in _findings(result):
        console.print(Text(line))
    console.print(Text(f"Setting: {result.verdict.setting}"))
    console.print(Text(f"Report:  {page}"))


def print_comparison(first: StudyResult, second: StudyResult, page: Path) -> None:
    """Print two studies' verdicts, how far their arms lie apart, what weakens the comparison, and where the page lies."""
    from dropkit.report.compare import cautions, differences, study_names
    from dropkit.report.numbers import Scale

    console = Console(highlight=False, soft_wrap=True)
    names, scale, found = study_names(first, second), Scale.of(first.summary), differences(first, second)
    for name, result in zip(names, (first, second), strict=True):
        console.print(Text(f"{name}: {result.verdict.sentence}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("arm", f"{names[1]} better by", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "arm" else "right", no_wrap=heading != "arm", overflow="fold")
    for item in found:
        table.add_row(Text(item.arm), scale.difference(item.mean), scale.interval(item.low, item.high))
    console.print(table, soft_wrap=False)
    for caution in cautions(first, second, found):
        console.print(Text(f"Caution: {caution}"))
    console.print(Text(f"Report:  {page}"))


def _findings(result: StudyResult) -> list[str]:
    """A line a finding; what is found in several arms is said of the first, and the others are named."""
    lines = []
    for first, *others in grouped(result.diagnoses):
        also = f" The same in {', '.join(repr(found.arm) for found in others)}." if others else ""
        lines.append(f"Finding ({first.kind}): {first.sentence}{also} {first.remedy}")
    return lines


def _table(result: StudyResult, width: int) -> Table:
    found = {contrast.arm: contrast for contrast in result.contrasts}
    rows = []
    for arm in result.arms:
        scores = [run.test_metric for run in result.of_arm(arm.name)]
        mean = sum(scores) / len(scores)
        shown = f"{mean:.2%}" if result.summary.unit == "points" else f"{mean:.4g}"
        rows.append((arm.name, shown, *_cells(found.get(arm.name), result.summary)))
    return _fitted(("arm", f"test {result.summary.metric}", "better by", "95 % interval", "verdict"), rows, width)


def _effects_table(worth: Sequence[Effect], summary: Summary, width: int) -> Table:
    rows = [(" x ".join(effect.changes), *_cells(effect, summary)) for effect in worth]
    return _fitted(("change, others averaged", "better by", "95 % interval", "effect"), rows, width)


def _fitted(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Return a table whose numbers stand on one line; names in front and words at the end fold where it would be too wide."""
    columns = list(zip(headings, *rows, strict=True))
    last = max(len(word) for cell in columns[-1] for word in cell.split())
    rest = last + sum(max(map(len, column)) for column in columns[1:-1]) + _GAP * len(columns)
    whole = min(_WHOLE, max(map(len, columns[0])), width - rest)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(headings[0], overflow="fold", min_width=whole)
    for heading in headings[1:-1]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(headings[-1], min_width=last)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _cells(contrast: Contrast | Effect | None, summary: Summary) -> tuple[str, str, str]:
    if contrast is None:
        return "", "", "reference"
    scale, digits = (100, "+.2f") if summary.unit == "points" else (1, "+.3g")
    interval = "" if contrast.low is None or contrast.high is None else (
        f"{contrast.low * scale:{digits}} to {contrast.high * scale:{digits}}")
    return f"{contrast.mean * scale:{digits}}", interval, contrast.kind
