#!/usr/bin/env python3
"""Draws docs/report-refuted.png: the first counterexample of a page, down to its memory.

    .venv/bin/python scripts/report-picture.py reports/broken.elf/index.html docs/report-refuted.png

Needs the development installation and Debian's chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import FloatRect, Page, sync_playwright


def main(page: Path, picture: Path) -> None:
    """Write ``picture`` of the HTML file ``page``."""
    with sync_playwright() as playwright:
        # Its sandbox needs privileges that containers and root lack; only our own file is opened.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1230, "height": 1400}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        shown = tab.locator(".refutation").first
        shown.scroll_into_view_if_needed()
        tab.add_style_tag(content=".bar { display: none !important; }")
        whole, inputs = shown.bounding_box(), shown.locator(".inputs").bounding_box()
        assert whole is not None and inputs is not None
        height = inputs["y"] + inputs["height"] - whole["y"] + 12
        tab.screenshot(path=picture, full_page=True, clip={**_on_page(tab, whole), "height": height})
        browser.close()


def _on_page(tab: Page, box: FloatRect) -> FloatRect:
    """A box of the window as one of the whole page."""
    return {**box, "y": box["y"] + tab.evaluate("scrollY")}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
