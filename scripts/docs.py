"""Write the generated pages of the documentation: one for each variant and one for each rule of the audit."""

from __future__ import annotations

from pathlib import Path

import dropkit as dk
from dropkit.audit.pages import rule_page
from dropkit.audit.rules import rules
from dropkit.explain.picture import draw_svg, mask_of, svg_body
from dropkit.variants.claims import Variant

DOCS = Path(__file__).resolve().parent.parent / "docs"
HERE = DOCS / "variants"
RULES = DOCS / "rules"


def page(row: Variant) -> str:
    """Return a variant's page."""
    function, module = row.function.__name__, row.module.__name__
    return "\n".join([
        f"# {module}", "", row.summary, "", f"![One training pass over four examples]({module}.svg)", "",
        "```{eval-rst}",
        f".. autofunction:: dropkit.functional.{function}", "",
        f".. autoclass:: dropkit.nn.{module}", "",
        "```", "",
    ])


def gallery(columns: int = 3, width: int = 400) -> str:
    """Return one picture of the masks of every variant."""
    parts, heights, bottoms = [], [], [0] * columns
    for row in dk.catalog():
        body, wide, high = svg_body(_caption(row), mask_of(row))
        column = bottoms.index(min(bottoms))
        shrink = min(1.0, (width - 30) / wide)
        parts.append(f'<g transform="translate({column * width + 15} {bottoms[column] + 15}) scale({shrink:.3f})">{body}</g>')
        bottoms[column] += int(high * shrink) + 24
        heights.append(bottoms[column])
    size = f'viewBox="0 0 {columns * width} {max(heights) + 15}" width="{columns * width}" height="{max(heights) + 15}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


def _caption(row: Variant) -> str:
    return row.module.__name__ if row.claims.rate is None else f"{row.module.__name__}, {row.claims.rate} = 0.4"


def write_rules(folder: Path = RULES) -> None:
    """Write the page of every rule."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for rule in rules():
        (folder / f"{rule.id}.md").write_text(rule_page(rule), encoding="utf-8")


def write_variants() -> None:
    """Write the page and the picture of every variant, and the list of them."""
    HERE.mkdir(parents=True, exist_ok=True)
    for old in (*HERE.glob("*.md"), *HERE.glob("*.svg")):
        old.unlink()
    (HERE / "gallery.svg").write_text(gallery(), encoding="utf-8")
    for row in dk.catalog():
        (HERE / f"{row.module.__name__}.svg").write_text(draw_svg(_caption(row), mask_of(row)), encoding="utf-8")
        (HERE / f"{row.module.__name__}.md").write_text(page(row), encoding="utf-8")
    names = "\n".join(row.module.__name__ for row in dk.catalog())
    picture = "![One training pass of every variant](gallery.svg)"
    (HERE / "index.md").write_text(f"# Variants\n\n{picture}\n\n```{{toctree}}\n{names}\n```\n", encoding="utf-8")


def main() -> None:
    """Write all of it."""
    write_variants()
    write_rules()


if __name__ == "__main__":
    main()
