"""Write the generated pages of the documentation: one for each variant, from the catalog and the docstrings."""

from __future__ import annotations

from pathlib import Path

import dropkit as dk
from dropkit.catalog import Variant

HERE = Path(__file__).resolve().parent.parent / "docs" / "variants"


def page(row: Variant) -> str:
    """Return a variant's page."""
    function, module = row.function.__name__, row.module.__name__
    return "\n".join([
        f"# {module}", "", row.summary, "",
        "```{eval-rst}",
        f".. autofunction:: dropkit.functional.{function}", "",
        f".. autoclass:: dropkit.nn.{module}", "",
        "```", "",
    ])


def main() -> None:
    """Write every page and the list of them."""
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.glob("*.md"):
        old.unlink()
    for row in dk.catalog():
        (HERE / f"{row.module.__name__}.md").write_text(page(row), encoding="utf-8")
    names = "\n".join(row.module.__name__ for row in dk.catalog())
    (HERE / "index.md").write_text(f"# Variants\n\n```{{toctree}}\n{names}\n```\n", encoding="utf-8")


if __name__ == "__main__":
    main()
