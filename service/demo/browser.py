"""A real browser for the tests, measures and pictures of the page: the system's Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models.errors import PersonSearchError
from models.packages import how_to_install

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class NoBrowserError(PersonSearchError):
    """There is no Chromium, or nothing to drive it with."""

    code = "internal"


def find_chromium() -> str:
    """The path of Chromium: PERSON_SEARCH_CHROMIUM, or the first of PROGRAMS that is installed.

    Raises:
        NoBrowserError: there is none, or Playwright is not installed.
    """
    found = os.environ.get("PERSON_SEARCH_CHROMIUM") or next(
        filter(None, map(shutil.which, PROGRAMS)), None
    )
    if found is None:
        raise NoBrowserError("no Chromium: apt-get install chromium, or set PERSON_SEARCH_CHROMIUM")
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise NoBrowserError(f"no Playwright: {how_to_install('playwright')}") from None
    return found


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A headless Chromium until the end of the block; it asks nothing of the network by itself.

    Raises:
        NoBrowserError: as find_chromium does.
    """
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    arguments = ["--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's own does not work for root
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def serious_findings(page: "Page") -> list[str]:
    """What axe-core finds wrong for people with assistive technology, serious or critical: with it
    the contrast of WCAG 2 AA. One line each: rule and place."""
    from axe_playwright_python.base import AXE_SCRIPT

    page.evaluate(AXE_SCRIPT)
    answer = page.evaluate(
        "() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})"
    )
    return [
        f"{found['id']}: {', '.join(str(node['target'][0]) for node in found['nodes'])}: "
        f"{found['nodes'][0]['any'][0]['message'] if found['nodes'][0]['any'] else found['help']}"
        for found in answer["violations"]
        if found["impact"] in ("serious", "critical")
    ]
