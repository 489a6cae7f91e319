"""Take the README's picture of a report: python scripts/picture.py runs/digits/report.html docs/report.png."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(page_file: str, picture: str) -> None:
    """Open the page in headless Chromium and save what a reader sees first."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1180, "height": 1190})
        page.goto(Path(page_file).resolve().as_uri())
        page.wait_for_function("document.querySelectorAll('.main-svg').length > 0")
        page.wait_for_timeout(500)  # let plotly settle its layout
        page.screenshot(path=picture)
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
